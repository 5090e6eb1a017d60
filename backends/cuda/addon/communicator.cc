#include "addon.h"

Napi::Function Communicator::define(Napi::Env env) { return DefineClass(env, "NativeCommunicator", {}); }

Napi::Object Communicator::wrap(Napi::Env env, em_communicator* communicator) {
  return env.GetInstanceData<AddonData>()->communicator.New({Napi::External<em_communicator>::New(env, communicator)});
}

Communicator::Communicator(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<Communicator>(info), communicator_(nullptr) {
  if (!info[0].IsExternal())
    throw_error(info.Env(), "invalid_argument", "communicators are made by createCommunicator");
  communicator_ = info[0].As<Napi::External<em_communicator>>().Data();
}

Communicator::~Communicator() {
  if (communicator_) em_communicator_release(communicator_);
}
