#include <memory>
#include <vector>

#include "addon.h"

Napi::Function Device::define(Napi::Env env) {
  return DefineClass(env, "NativeDevice",
                     {
                         InstanceMethod<&Device::load_module>("loadModule"),
                         InstanceMethod<&Device::create_arena>("createArena"),
                         InstanceMethod<&Device::create_communicator>("createCommunicator"),
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

Napi::Value Device::create_communicator(const Napi::CallbackInfo& info) {
  const std::string nccl = optional_text(info, 0), group = text(info, 1, "a group");
  const uint32_t channel = small_number(info, 2, "a channel"), member = small_number(info, 3, "a member"),
                 size = small_number(info, 4, "a group's size");
  const Napi::Uint8Array given = bytes(info, 5, "an id");
  const double seconds = static_cast<double>(small_number(info, 6, "seconds"));
  if (given.ByteLength() != EM_NCCL_ID_BYTES) throw_error(info.Env(), "invalid_argument", "an id has 128 bytes");
  const std::vector<uint8_t> id(given.Data(), given.Data() + EM_NCCL_ID_BYTES);
  em_device* device = get(info.Env());
  em_device_retain(device);
  const auto made = std::make_shared<em_communicator*>(nullptr);
  const auto work = [=](em_error* failed) {
    const bool good = em_communicator_create(device, nccl.c_str(), {group.c_str(), channel, member, size}, id.data(),
                                             seconds, made.get(), failed);
    em_device_release(device);
    return good;
  };
  return Blocking::make(info.This().As<Napi::Object>(), work,
                        [made](Napi::Env env) { return Communicator::wrap(env, *made); });
}

namespace {

// Everything that a load needs while it runs on another thread.
struct Load {
  em_device* device = nullptr;
  std::vector<uint8_t> file;
  std::vector<em_arena*> arenas;
  std::vector<std::string> groups;
  std::vector<em_member> members;
  std::vector<em_communicator*> communicators;
  bool has_rank = false, staged = true;
  em_program* program = nullptr;

  ~Load() {
    for (em_communicator* one : communicators) em_communicator_release(one);
    for (em_arena* one : arenas) em_arena_release(one);
    if (device) em_device_release(device);
  }
  bool run(em_error* failed) {
    const em_rank rank = {members.data(), members.size(), staged, communicators.data(), communicators.size()};
    return em_program_load(device, file.data(), file.size(), arenas.data(), arenas.size(), has_rank ? &rank : nullptr,
                           &program, failed);
  }
};

// { members, communicators? } of NativeRank.
void read_rank(Napi::Env env, const Napi::Object& given, Load& load) {
  load.has_rank = true;
  const Napi::Object members = given.Get("members").ToObject();
  const Napi::Array names = members.GetPropertyNames();
  for (uint32_t i = 0; i < names.Length(); i++) load.groups.push_back(names.Get(i).ToString().Utf8Value());
  for (const std::string& group : load.groups)
    load.members.push_back({group.c_str(), members.Get(group).ToNumber().Uint32Value()});
  const Napi::Value communicators = given.Get("communicators");
  load.staged = !communicators.IsArray();
  if (load.staged) return;
  const Napi::Array list = communicators.As<Napi::Array>();
  const Napi::FunctionReference& own = env.GetInstanceData<AddonData>()->communicator;
  for (uint32_t i = 0; i < list.Length(); i++) {
    const Napi::Value item = list[i];
    if (!item.IsObject() || !item.As<Napi::Object>().InstanceOf(own.Value()))
      throw_error(env, "invalid_argument", "communicator " + std::to_string(i) + " is none");
    load.communicators.push_back(Communicator::Unwrap(item.As<Napi::Object>())->get());
    em_communicator_retain(load.communicators.back());
  }
}

}  // namespace

Napi::Value Device::load_program(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Napi::Uint8Array file = bytes(info, 0, "a program file");
  if (!info[1].IsArray()) throw_error(env, "invalid_argument", "the arenas must be a list");
  const Napi::Array list = info[1].As<Napi::Array>();
  const Napi::FunctionReference& arena_class = env.GetInstanceData<AddonData>()->arena;
  const auto load = std::make_shared<Load>();
  load->file.assign(file.Data(), file.Data() + file.ByteLength());
  for (uint32_t i = 0; i < list.Length(); i++) {
    const Napi::Value item = list[i];
    if (!item.IsObject() || !item.As<Napi::Object>().InstanceOf(arena_class.Value()))
      throw_error(env, "invalid_argument", "arena " + std::to_string(i) + " is none");
    em_arena* arena = Arena::Unwrap(item.As<Napi::Object>())->get(env);
    em_arena_retain(arena);
    load->arenas.push_back(arena);
  }
  if (info[2].IsObject()) read_rank(env, info[2].As<Napi::Object>(), *load);
  em_device* device = get(env);
  em_device_retain(device);
  load->device = device;
  return Blocking::make(info.This().As<Napi::Object>(), [load](em_error* failed) { return load->run(failed); },
                        [load](Napi::Env env) { return Program::wrap(env, load->program); });
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
