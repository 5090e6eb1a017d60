#include <cstring>
#include <vector>

#include "addon.h"

Napi::Function Program::define(Napi::Env env) {
  return DefineClass(env, "NativeProgram",
                     {
                         InstanceMethod<&Program::run>("run"),
                         InstanceMethod<&Program::step>("step"),
                         InstanceMethod<&Program::run_steps>("runSteps"),
                         InstanceMethod<&Program::schedule>("schedule"),
                         InstanceMethod<&Program::run_schedule>("runSchedule"),
                         InstanceMethod<&Program::destroy>("destroy"),
                     });
}

Napi::Object Program::wrap(Napi::Env env, em_program* program) {
  return env.GetInstanceData<AddonData>()->program.New({Napi::External<em_program>::New(env, program)});
}

Program::Program(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Program>(info), program_(nullptr) {
  if (!info[0].IsExternal()) throw_error(info.Env(), "invalid_argument", "programs are made by loadProgram");
  program_ = info[0].As<Napi::External<em_program>>().Data();
}

Program::~Program() {
  if (program_) em_program_release(program_);
}

em_program* Program::get(Napi::Env env) const {
  if (!program_) throw_error(env, "invalid_argument", "the program was destroyed");
  return program_;
}

namespace {

em_inputs inputs_at(const Napi::CallbackInfo& info, size_t index) {
  const Napi::Uint8Array data = bytes(info, index + 1, "the inputs");
  return {whole_number(info, index, "the inputs' offset"), data.Data(), data.ByteLength()};
}

}  // namespace

void Program::run(const Napi::CallbackInfo& info) {
  const uint32_t segment = small_number(info, 0, "a segment"), slot = small_number(info, 1, "a slot");
  em_error error = {};
  if (!em_program_submit(get(info.Env()), segment, slot, inputs_at(info, 2), nullptr, &error))
    throw_error(info.Env(), error);
}

Napi::Value Program::step(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const uint32_t segment = small_number(info, 0, "a segment"), slot = small_number(info, 1, "a slot");
  em_program* program = get(env);
  Napi::Uint8Array outputs =
      Napi::Uint8Array::New(env, static_cast<size_t>(em_program_output_bytes(program, segment)));
  em_error error = {};
  em_ticket* ticket = nullptr;
  if (!em_program_submit(program, segment, slot, inputs_at(info, 2), &ticket, &error)) return rejected(env, error);
  uint8_t* to = outputs.Data();
  return wait_for(info.This().As<Napi::Object>(), ticket, outputs, [to](em_ticket* done) {
    size_t count = 0;
    const uint8_t* from = em_ticket_outputs(done, &count);
    if (count > 0) std::memcpy(to, from, count);
  });
}

void Program::run_steps(const Napi::CallbackInfo& info) {
  em_error error = {};
  if (!em_program_run_steps(get(info.Env()), small_number(info, 0, "a segment"), small_number(info, 1, "a step"),
                            small_number(info, 2, "a number of steps"), small_number(info, 3, "a number of times"),
                            &error))
    throw_error(info.Env(), error);
}

Napi::Value Program::schedule(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsArray()) throw_error(env, "invalid_argument", "a schedule must be a list");
  const Napi::Array list = info[0].As<Napi::Array>();
  std::vector<em_schedule_entry> entries;
  for (uint32_t i = 0; i < list.Length(); i++) {
    const Napi::Value item = list[i];
    const auto number = [&](uint32_t at) {
      const Napi::Value value = item.IsArray() ? item.As<Napi::Array>().Get(at) : env.Undefined();
      if (!value.IsNumber())
        throw_error(env, "invalid_argument", "entry " + std::to_string(i) + " of a schedule must be [segment, slot]");
      return value.As<Napi::Number>().Uint32Value();
    };
    entries.push_back({number(0), number(1)});
  }
  em_error error = {};
  uint32_t handle = 0;
  if (!em_program_schedule(get(env), entries.data(), entries.size(), &handle, &error)) throw_error(env, error);
  return Napi::Number::New(env, handle);
}

void Program::run_schedule(const Napi::CallbackInfo& info) {
  em_error error = {};
  if (!em_program_run_schedule(get(info.Env()), small_number(info, 0, "a schedule"), inputs_at(info, 1), &error))
    throw_error(info.Env(), error);
}

void Program::destroy(const Napi::CallbackInfo&) {
  if (program_) em_program_release(program_);
  program_ = nullptr;
}
