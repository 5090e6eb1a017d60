
#include "addon.h"

Napi::Function Arena::define(Napi::Env env) {
  return DefineClass(env, "NativeArena",
                     {
                         InstanceMethod<&Arena::write>("write"),
                         InstanceMethod<&Arena::read>("read"),
                         InstanceMethod<&Arena::write_file>("writeFile"),
                         InstanceMethod<&Arena::fill>("fill"),
                         InstanceMethod<&Arena::destroy>("destroy"),
                     });
}

Napi::Object Arena::wrap(Napi::Env env, em_arena* arena) {
  return env.GetInstanceData<AddonData>()->arena.New({Napi::External<em_arena>::New(env, arena)});
}

Arena::Arena(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Arena>(info), arena_(nullptr) {
  if (!info[0].IsExternal()) throw_error(info.Env(), "invalid_argument", "arenas are made by createArena");
  arena_ = info[0].As<Napi::External<em_arena>>().Data();
}

Arena::~Arena() {
  if (arena_) em_arena_release(arena_);
}

em_arena* Arena::get(Napi::Env env) const {
  if (!arena_) throw_error(env, "invalid_argument", "the arena was destroyed");
  return arena_;
}

void Arena::write(const Napi::CallbackInfo& info) {
  const uint64_t offset = whole_number(info, 0, "an offset");
  const Napi::Uint8Array data = bytes(info, 1, "what is written");
  em_error error = {};
  if (!em_arena_write(get(info.Env()), offset, data.Data(), data.ByteLength(), &error))
    throw_error(info.Env(), error);
}

Napi::Value Arena::read(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const uint64_t offset = whole_number(info, 0, "an offset"), count = whole_number(info, 1, "a number of bytes");
  em_arena* arena = get(env);
  // Checked before the result's memory is made: a number that leaves the arena may be absurd.
  const uint64_t room = em_arena_bytes(arena);
  em_error error = {};
  em_read* read = nullptr;
  if (offset > room || count > room - offset)
    throw_error(env, "invalid_argument",
                std::to_string(count) + " bytes at " + std::to_string(offset) + " leave the arena of " +
                    std::to_string(room) + " bytes");
  Napi::Uint8Array result = Napi::Uint8Array::New(env, static_cast<size_t>(count));
  if (!em_read_begin(arena, offset, count, &read, &error)) return rejected(env, error);
  uint8_t* to = result.Data();
  return Blocking::run(info.This().As<Napi::Object>(), result,
                       [read, to](em_error* failed) { return em_read_finish(read, to, failed); });
}

Napi::Value Arena::write_file(const Napi::CallbackInfo& info) {
  const uint64_t offset = whole_number(info, 0, "an offset");
  const std::string path = text(info, 1, "a path");
  const uint64_t file_offset = whole_number(info, 2, "a file offset");
  const uint64_t count = whole_number(info, 3, "a number of bytes");
  em_arena* arena = get(info.Env());
  em_arena_retain(arena);
  return Blocking::run(info.This().As<Napi::Object>(), info.Env().Undefined(), [=](em_error* failed) {
    const bool good = em_arena_write_file(arena, offset, path.c_str(), file_offset, count, failed);
    em_arena_release(arena);
    return good;
  });
}

void Arena::fill(const Napi::CallbackInfo& info) {
  const uint64_t byte = whole_number(info, 0, "a byte", 255);
  em_error error = {};
  if (!em_arena_fill(get(info.Env()), static_cast<uint8_t>(byte), &error)) throw_error(info.Env(), error);
}

void Arena::destroy(const Napi::CallbackInfo&) {
  if (arena_) em_arena_release(arena_);
  arena_ = nullptr;
}
