// Arguments, errors and promises.

#include "addon.h"

namespace {

Napi::Value set_error_factory(const Napi::CallbackInfo& info) {
  info.Env().GetInstanceData<AddonData>()->make_error = Napi::Persistent(info[0].As<Napi::Function>());
  return info.Env().Undefined();
}

Napi::Value probe(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string driver = optional_text(info, 0);
  em_error error = {};
  int version = 0, count = 0;
  if (!em_driver_probe(driver.c_str(), &version, &count, &error)) throw_error(env, error);
  bool emulated = false;
  Napi::Array devices = Napi::Array::New(env, count);
  for (int i = 0; i < count; i++) {
    em_device_info one;
    if (!em_device_probe(driver.c_str(), i, &one, &error)) throw_error(env, error);
    Napi::Object device = Napi::Object::New(env);
    device["name"] = Napi::String::New(env, one.name);
    device["capability"] = Napi::Number::New(env, one.capability);
    device["memory"] = Napi::Number::New(env, static_cast<double>(one.memory));
    device["multiprocessors"] = Napi::Number::New(env, one.multiprocessors);
    devices[static_cast<uint32_t>(i)] = device;
    emulated = emulated || one.emulated;
  }
  Napi::Object result = Napi::Object::New(env);
  result["version"] = Napi::Number::New(env, version);
  result["emulated"] = Napi::Boolean::New(env, emulated);
  result["devices"] = devices;
  return result;
}

Napi::Value probe_nccl(const Napi::CallbackInfo& info) {
  em_error error = {};
  int version = 0;
  if (!em_nccl_probe(optional_text(info, 0).c_str(), &version, &error)) throw_error(info.Env(), error);
  return Napi::Number::New(info.Env(), version);
}

Napi::Value make_nccl_id(const Napi::CallbackInfo& info) {
  em_error error = {};
  Napi::Uint8Array id = Napi::Uint8Array::New(info.Env(), EM_NCCL_ID_BYTES);
  if (!em_nccl_make_id(optional_text(info, 0).c_str(), id.Data(), &error)) throw_error(info.Env(), error);
  return id;
}

Napi::Value open_device(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int index = static_cast<int>(whole_number(info, 0, "the device's index", INT32_MAX));
  em_error error = {};
  em_device* device = nullptr;
  if (!em_device_open(optional_text(info, 1).c_str(), index, &device, &error)) throw_error(env, error);
  return Device::wrap(env, device);
}

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  AddonData* data = new AddonData();
  data->device = Napi::Persistent(Device::define(env));
  data->arena = Napi::Persistent(Arena::define(env));
  data->program = Napi::Persistent(Program::define(env));
  data->communicator = Napi::Persistent(Communicator::define(env));
  env.SetInstanceData(data);
  exports["setErrorFactory"] = Napi::Function::New(env, set_error_factory, "setErrorFactory");
  exports["probe"] = Napi::Function::New(env, probe, "probe");
  exports["probeNccl"] = Napi::Function::New(env, probe_nccl, "probeNccl");
  exports["makeNcclId"] = Napi::Function::New(env, make_nccl_id, "makeNcclId");
  exports["openDevice"] = Napi::Function::New(env, open_device, "openDevice");
  return exports;
}

}  // namespace

NODE_API_MODULE(exactmap, initialise)

Napi::Value error_value(Napi::Env env, const em_error& error) {
  Napi::Object fields = Napi::Object::New(env);
  const auto set = [&](const char* name, const char* value) {
    if (value && *value) fields[name] = Napi::String::New(env, value);
  };
  set("code", error.code ? error.code : "internal");
  set("message", error.message);
  set("call", error.call);
  set("cudaName", error.cuda_name);
  if (error.cuda_error != 0) fields["cudaError"] = Napi::Number::New(env, error.cuda_error);
  set("program", error.program);
  set("segment", error.segment);
  set("launch", error.launch);
  set("kernel", error.kernel);
  const AddonData* data = env.GetInstanceData<AddonData>();
  if (data->make_error.IsEmpty()) return Napi::Error::New(env, error.message).Value();
  return data->make_error.Call({fields});
}

void throw_error(Napi::Env env, const em_error& error) {
  throw Napi::Error(env, error_value(env, error));
}

void throw_error(Napi::Env env, const char* code, const std::string& message) {
  em_error error = {};
  error.code = code;
  message.copy(error.message, sizeof error.message - 1);
  throw_error(env, error);
}

uint64_t whole_number(const Napi::CallbackInfo& info, size_t index, const char* what, uint64_t most) {
  const double value = info[index].IsNumber() ? info[index].As<Napi::Number>().DoubleValue() : -1;
  if (!(value >= 0 && value <= static_cast<double>(most)) ||
      value != static_cast<double>(static_cast<uint64_t>(value)))
    throw_error(info.Env(), "invalid_argument",
                std::string(what) + " must be a whole number from 0 to " + std::to_string(most));
  return static_cast<uint64_t>(value);
}

uint32_t small_number(const Napi::CallbackInfo& info, size_t index, const char* what) {
  return static_cast<uint32_t>(whole_number(info, index, what, UINT32_MAX));
}

std::string text(const Napi::CallbackInfo& info, size_t index, const char* what) {
  if (!info[index].IsString()) throw_error(info.Env(), "invalid_argument", std::string(what) + " must be a string");
  return info[index].As<Napi::String>().Utf8Value();
}

std::string optional_text(const Napi::CallbackInfo& info, size_t index) {
  return info[index].IsString() ? info[index].As<Napi::String>().Utf8Value() : "";
}

Napi::Uint8Array bytes(const Napi::CallbackInfo& info, size_t index, const char* what) {
  if (!info[index].IsTypedArray() || info[index].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
    throw_error(info.Env(), "invalid_argument", std::string(what) + " must be a Uint8Array");
  return info[index].As<Napi::Uint8Array>();
}

Blocking::Blocking(Napi::Object owner, Napi::Value result, std::function<bool(em_error*)> work)
    : Napi::AsyncWorker(owner.Env(), "exactmap"),
      deferred_(Napi::Promise::Deferred::New(owner.Env())),
      owner_(Napi::Persistent(owner)),
      work_(std::move(work)) {
  if (result.IsObject()) result_ = Napi::Reference<Napi::Value>::New(result, 1);
}

Napi::Promise Blocking::run(Napi::Object owner, Napi::Value result, std::function<bool(em_error*)> work) {
  Blocking* worker = new Blocking(owner, result, std::move(work));
  const Napi::Promise promise = worker->deferred_.Promise();
  worker->Queue();
  return promise;
}

Napi::Promise Blocking::make(Napi::Object owner, std::function<bool(em_error*)> work,
                             std::function<Napi::Value(Napi::Env)> result) {
  Blocking* worker = new Blocking(owner, owner.Env().Undefined(), std::move(work));
  worker->make_ = std::move(result);
  const Napi::Promise promise = worker->deferred_.Promise();
  worker->Queue();
  return promise;
}

void Blocking::Execute() {
  if (!work_(&error_)) SetError("failed");
}

void Blocking::OnOK() {
  if (make_) return deferred_.Resolve(make_(Env()));
  deferred_.Resolve(result_.IsEmpty() ? Env().Undefined() : result_.Value());
}

void Blocking::OnError(const Napi::Error&) { deferred_.Reject(error_value(Env(), error_)); }

Napi::Promise rejected(Napi::Env env, const em_error& error) {
  const Napi::Promise::Deferred deferred = Napi::Promise::Deferred::New(env);
  deferred.Reject(error_value(env, error));
  return deferred.Promise();
}

Napi::Promise wait_for(Napi::Object owner, em_ticket* ticket, Napi::Value result,
                       std::function<void(em_ticket*)> finish) {
  return Blocking::run(owner, result, [ticket, finish](em_error* error) {
    const bool good = em_ticket_wait(ticket, error);
    if (good) finish(ticket);
    em_ticket_release(ticket);
    return good;
  });
}
