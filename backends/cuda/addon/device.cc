#include <vector>

#include "addon.h"

Napi::Function Device::define(Napi::Env env) {
  return DefineClass(env, "NativeDevice",
                     {
                         InstanceMethod<&Device::load_module>("loadModule"),
                         InstanceMethod<&Device::create_arena>("createArena"),
                         InstanceMethod<&Device::load_program>("loadProgram"),
                         InstanceMethod<&Device::memory>("memory"),
                         InstanceMethod<&Device::finished>("finished"),
                         InstanceMethod<&Device::destroy>("destroy"),
                     });
}

Napi::Object Device::wrap(Napi::Env env, em_device* device) {
  const AddonData* data = env.GetInstanceData<AddonData>();
  Napi::Object object = data->device.New({Napi::External<em_device>::New(env, device)});
  const em_device_info* info = em_device_describe(device);
  object.DefineProperties({
      Napi::PropertyDescriptor::Value("name", Napi::String::New(env, info->name), napi_enumerable),
      Napi::PropertyDescriptor::Value("capability", Napi::Number::New(env, info->capability), napi_enumerable),
      Napi::PropertyDescriptor::Value("emulated", Napi::Boolean::New(env, info->emulated), napi_enumerable),
  });
  return object;
}

Device::Device(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Device>(info), device_(nullptr) {
  if (!info[0].IsExternal()) throw_error(info.Env(), "invalid_argument", "devices are made by openDevice");
  device_ = info[0].As<Napi::External<em_device>>().Data();
}

Device::~Device() {
  if (device_) em_device_release(device_);
}

em_device* Device::get(Napi::Env env) const {
  if (!device_) throw_error(env, "invalid_argument", "the device was destroyed; open it again");
  return device_;
}

void Device::load_module(const Napi::CallbackInfo& info) {
  const std::string name = text(info, 0, "a module's name");
  const Napi::Uint8Array image = bytes(info, 1, "a module's image");
  em_error error = {};
  if (!em_module_load(get(info.Env()), name.c_str(), image.Data(), image.ByteLength(), &error))
    throw_error(info.Env(), error);
}

Napi::Value Device::create_arena(const Napi::CallbackInfo& info) {
  const std::string kind = text(info, 0, "an arena's kind");
  const uint64_t size = whole_number(info, 1, "an arena's size");
  em_error error = {};
  em_arena* arena = nullptr;
  if (!em_arena_create(get(info.Env()), kind.c_str(), size, info[2].ToBoolean(), &arena, &error))
    throw_error(info.Env(), error);
  return Arena::wrap(info.Env(), arena);
}

Napi::Value Device::load_program(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Napi::Uint8Array file = bytes(info, 0, "a program file");
  if (!info[1].IsArray()) throw_error(env, "invalid_argument", "the arenas must be a list");
  const Napi::Array list = info[1].As<Napi::Array>();
  const Napi::FunctionReference& arena_class = env.GetInstanceData<AddonData>()->arena;
  std::vector<em_arena*> arenas;
  for (uint32_t i = 0; i < list.Length(); i++) {
    const Napi::Value item = list[i];
    if (!item.IsObject() || !item.As<Napi::Object>().InstanceOf(arena_class.Value()))
      throw_error(env, "invalid_argument", "arena " + std::to_string(i) + " is none");
    arenas.push_back(Arena::Unwrap(item.As<Napi::Object>())->get(env));
  }
  em_error error = {};
  em_program* program = nullptr;
  if (!em_program_load(get(env), file.Data(), file.ByteLength(), arenas.data(), arenas.size(), &program, &error))
    throw_error(env, error);
  return Program::wrap(env, program);
}

Napi::Value Device::memory(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  em_error error = {};
  uint64_t free_bytes = 0, total_bytes = 0;
  if (!em_device_memory(get(env), &free_bytes, &total_bytes, &error)) throw_error(env, error);
  Napi::Object result = Napi::Object::New(env);
  result["free"] = Napi::Number::New(env, static_cast<double>(free_bytes));
  result["total"] = Napi::Number::New(env, static_cast<double>(total_bytes));
  return result;
}

Napi::Value Device::finished(const Napi::CallbackInfo& info) {
  em_error error = {};
  em_ticket* ticket = nullptr;
  if (!em_device_mark(get(info.Env()), &ticket, &error)) return rejected(info.Env(), error);
  return wait_for(info.This().As<Napi::Object>(), ticket, info.Env().Undefined(), [](em_ticket*) {});
}

void Device::destroy(const Napi::CallbackInfo&) {
  if (!device_) return;
  em_device_close(device_);
  em_device_release(device_);
  device_ = nullptr;
}
