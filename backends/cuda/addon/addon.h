// What the files of the addon share. The addon is a thin layer: argument checks, promises and object lifetimes; the
// rest is the C runtime (../runtime/exactmap.h).
#pragma once
#define NAPI_VERSION 8
#include <napi.h>

#include <functional>
#include <string>

#include "exactmap.h"

struct AddonData {
  Napi::FunctionReference make_error;
  Napi::FunctionReference device, arena, program, communicator;
};

// The JavaScript error of a runtime error: what the function given to setErrorFactory makes of its fields.
Napi::Value error_value(Napi::Env env, const em_error& error);
[[noreturn]] void throw_error(Napi::Env env, const em_error& error);
[[noreturn]] void throw_error(Napi::Env env, const char* code, const std::string& message);

// Arguments; a wrong one throws `invalid_argument`.
uint64_t whole_number(const Napi::CallbackInfo& info, size_t index, const char* what, uint64_t most = 1ull << 53);
uint32_t small_number(const Napi::CallbackInfo& info, size_t index, const char* what);
std::string text(const Napi::CallbackInfo& info, size_t index, const char* what);
std::string optional_text(const Napi::CallbackInfo& info, size_t index);
Napi::Uint8Array bytes(const Napi::CallbackInfo& info, size_t index, const char* what);

// A call that blocks, made on a worker thread; its promise keeps `owner` alive. `result` is what it resolves to, made
// beforehand so that the worker can fill its memory.
class Blocking : public Napi::AsyncWorker {
 public:
  static Napi::Promise run(Napi::Object owner, Napi::Value result, std::function<bool(em_error*)> work);
  // The same with a result that is made when the work is done.
  static Napi::Promise make(Napi::Object owner, std::function<bool(em_error*)> work,
                            std::function<Napi::Value(Napi::Env)> result);

 private:
  Blocking(Napi::Object owner, Napi::Value result, std::function<bool(em_error*)> work);
  void Execute() override;
  void OnOK() override;
  void OnError(const Napi::Error&) override;

  Napi::Promise::Deferred deferred_;
  Napi::ObjectReference owner_;
  Napi::Reference<Napi::Value> result_;
  std::function<bool(em_error*)> work_;
  std::function<Napi::Value(Napi::Env)> make_;
  em_error error_ = {};
};

class Arena : public Napi::ObjectWrap<Arena> {
 public:
  static Napi::Function define(Napi::Env env);
  // Takes over the reference.
  static Napi::Object wrap(Napi::Env env, em_arena* arena);
  explicit Arena(const Napi::CallbackInfo& info);
  ~Arena() override;
  em_arena* get(Napi::Env env) const;

 private:
  void write(const Napi::CallbackInfo& info);
  Napi::Value read(const Napi::CallbackInfo& info);
  Napi::Value write_file(const Napi::CallbackInfo& info);
  void fill(const Napi::CallbackInfo& info);
  void destroy(const Napi::CallbackInfo& info);
  em_arena* arena_;
};

class Communicator : public Napi::ObjectWrap<Communicator> {
 public:
  static Napi::Function define(Napi::Env env);
  // Takes over the reference.
  static Napi::Object wrap(Napi::Env env, em_communicator* communicator);
  explicit Communicator(const Napi::CallbackInfo& info);
  ~Communicator() override;
  em_communicator* get() const { return communicator_; }

 private:
  em_communicator* communicator_;
};

class Program : public Napi::ObjectWrap<Program> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Object wrap(Napi::Env env, em_program* program);
  explicit Program(const Napi::CallbackInfo& info);
  ~Program() override;

 private:
  em_program* get(Napi::Env env) const;
  void run(const Napi::CallbackInfo& info);
  Napi::Value step(const Napi::CallbackInfo& info);
  void run_steps(const Napi::CallbackInfo& info);
  Napi::Value schedule(const Napi::CallbackInfo& info);
  void run_schedule(const Napi::CallbackInfo& info);
  void destroy(const Napi::CallbackInfo& info);
  em_program* program_;
};

class Device : public Napi::ObjectWrap<Device> {
 public:
  static Napi::Function define(Napi::Env env);
  static Napi::Object wrap(Napi::Env env, em_device* device);
  explicit Device(const Napi::CallbackInfo& info);
  ~Device() override;

 private:
  em_device* get(Napi::Env env) const;
  void load_module(const Napi::CallbackInfo& info);
  Napi::Value create_arena(const Napi::CallbackInfo& info);
  Napi::Value create_communicator(const Napi::CallbackInfo& info);
  Napi::Value load_program(const Napi::CallbackInfo& info);
  Napi::Value memory(const Napi::CallbackInfo& info);
  Napi::Value finished(const Napi::CallbackInfo& info);
  void destroy(const Napi::CallbackInfo& info);
  em_device* device_;
};

// A promise that is rejected with a runtime error.
Napi::Promise rejected(Napi::Env env, const em_error& error);
// Resolves, to `result`, when the ticket's work is done; `finish` runs on the worker thread after a successful wait.
Napi::Promise wait_for(Napi::Object owner, em_ticket* ticket, Napi::Value result,
                       std::function<void(em_ticket*)> finish);
