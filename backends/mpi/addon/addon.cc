// The MPI transport as functions of JavaScript. A thin layer: ../transport.ts, its only caller, checks arguments, keeps
// the bytes of what is under way, and turns ids into promises; progress.cc talks to MPI.
#define NAPI_VERSION 8
#include <napi.h>

#include "progress.h"

namespace {

// Of the process, as MPI is, and never freed: the progress thread may outlive everything else.
struct State {
  Napi::FunctionReference finished;
  napi_threadsafe_function wake = nullptr;
  std::atomic<bool> woken{false};
  std::unique_ptr<Progress> progress;
  OperationList unused;
  size_t outstanding = 0;
};

State& state() {
  static State* const one = new State();
  return *one;
}

// Runs on the thread of JavaScript: answers everything that has finished.
void answer(napi_env raw, napi_value, void*, void*) {
  if (!raw) return;
  const Napi::Env env(raw);
  State& s = state();
  s.woken = false;
  OperationList finished = s.progress->take_finished();
  while (Operation* operation = finished.pop()) {
    if (--s.outstanding == 0) napi_unref_threadsafe_function(env, s.wake);
    const Napi::Value failure =
        operation->failure.empty() ? env.Undefined() : Napi::String::New(env, operation->failure);
    const Napi::Number id = Napi::Number::New(env, static_cast<double>(operation->id));
    const Napi::Number got = Napi::Number::New(env, static_cast<double>(operation->got));
    operation->failure.clear();
    s.unused.push(operation);
    s.finished.Call({id, got, failure});
  }
}

void submit(Napi::Env env, Operation::Kind kind, int64_t id, int peer = 0, int channel = 0, uint8_t* data = nullptr,
            size_t bytes = 0) {
  State& s = state();
  Operation* operation = s.unused.pop();
  if (!operation) operation = new Operation();
  operation->kind = kind;
  operation->id = id;
  operation->peer = peer;
  operation->channel = channel;
  operation->data = data;
  operation->bytes = bytes;
  operation->got = operation->pieces = 0;
  // What is under way keeps the process alive, an open transport alone does not.
  if (s.outstanding++ == 0) napi_ref_threadsafe_function(env, s.wake);
  s.progress->submit(operation);
}

// library(): the MPI library's description of itself
Napi::Value library(const Napi::CallbackInfo& info) {
  char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  MPI_Get_library_version(text, &length);
  return Napi::String::New(info.Env(), text, static_cast<size_t>(length));
}

// open(id, pieceBytes, finished): starts MPI; `finished` is called with (id, bytes, failure?) for every id
void open(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  State& s = state();
  s.finished = Napi::Persistent(info[2].As<Napi::Function>());
  napi_create_threadsafe_function(env, nullptr, nullptr, Napi::String::New(env, "exactmap mpi"), 0, 1, nullptr, nullptr,
                                  nullptr, answer, &s.wake);
  napi_unref_threadsafe_function(env, s.wake);
  s.progress = std::make_unique<Progress>(static_cast<size_t>(info[1].As<Napi::Number>().Int64Value()), [&s] {
    if (!s.woken.exchange(true)) napi_call_threadsafe_function(s.wake, nullptr, napi_tsfn_nonblocking);
  });
  submit(env, Operation::Kind::open, info[0].As<Napi::Number>().Int64Value());
  s.progress->start();
}

// world(): { rank, size, channels }, once open has finished
Napi::Value world(const Napi::CallbackInfo& info) {
  const World& world = state().progress->world();
  Napi::Object result = Napi::Object::New(info.Env());
  result["rank"] = Napi::Number::New(info.Env(), world.rank);
  result["size"] = Napi::Number::New(info.Env(), world.size);
  result["channels"] = Napi::Number::New(info.Env(), static_cast<double>(world.channels));
  return result;
}

void message(const Napi::CallbackInfo& info, Operation::Kind kind) {
  Napi::Uint8Array bytes = info[3].As<Napi::Uint8Array>();
  submit(info.Env(), kind, info[0].As<Napi::Number>().Int64Value(), info[1].As<Napi::Number>().Int32Value(),
         info[2].As<Napi::Number>().Int32Value(), bytes.Data(), bytes.ByteLength());
}

// send(id, to, channel, bytes), receive(id, from, channel, into)
void send(const Napi::CallbackInfo& info) { message(info, Operation::Kind::send); }
void receive(const Napi::CallbackInfo& info) { message(info, Operation::Kind::receive); }

// close(id): after all sends, with all other ranks
void close(const Napi::CallbackInfo& info) {
  submit(info.Env(), Operation::Kind::close, info[0].As<Napi::Number>().Int64Value());
}

// stop(): for the end of the process
void stop(const Napi::CallbackInfo&) { state().progress->stop(); }

// abort(code): ends all ranks, does not return
void abort(const Napi::CallbackInfo& info) { state().progress->abort(info[0].As<Napi::Number>().Int32Value()); }

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  exports["library"] = Napi::Function::New<library>(env, "library");
  exports["open"] = Napi::Function::New<open>(env, "open");
  exports["world"] = Napi::Function::New<world>(env, "world");
  exports["send"] = Napi::Function::New<send>(env, "send");
  exports["receive"] = Napi::Function::New<receive>(env, "receive");
  exports["close"] = Napi::Function::New<close>(env, "close");
  exports["stop"] = Napi::Function::New<stop>(env, "stop");
  exports["abort"] = Napi::Function::New<abort>(env, "abort");
  return exports;
}

}  // namespace

NODE_API_MODULE(exactmap_mpi, initialise)
