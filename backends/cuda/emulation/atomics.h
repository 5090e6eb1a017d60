// Atomics on integers, fences, and loads and stores with cache hints. Included by simt.h. There is no atomic on
// floats: its result would depend on the order of threads.
#pragma once

namespace simt {

template <class T>
constexpr bool is_atomic_integer = std::is_integral_v<T> && (sizeof(T) == 4 || sizeof(T) == 8);

// Replaces *address by change(old) and returns old.
template <class T, class Change>
__forceinline__ T atomic_update(T* address, Change change) {
  static_assert(is_atomic_integer<T>, "atomics exist for integers of 4 and 8 bytes only");
  T old = __atomic_load_n(address, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(address, &old, change(old), false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
  }
  return old;
}

template <class T>
__forceinline__ T load_acquire(const T* address) {
  static_assert(is_atomic_integer<T>);
  return __atomic_load_n(address, __ATOMIC_ACQUIRE);
}
template <class T>
__forceinline__ void store_release(T* address, std::type_identity_t<T> value) {
  static_assert(is_atomic_integer<T>);
  __atomic_store_n(address, value, __ATOMIC_RELEASE);
}

}  // namespace simt

template <class T>
__forceinline__ T atomicAdd(T* address, std::type_identity_t<T> value) {
  static_assert(simt::is_atomic_integer<T>, "atomics exist for integers of 4 and 8 bytes only");
  return __atomic_fetch_add(address, value, __ATOMIC_SEQ_CST);
}
template <class T>
__forceinline__ T atomicSub(T* address, std::type_identity_t<T> value) {
  static_assert(simt::is_atomic_integer<T>, "atomics exist for integers of 4 and 8 bytes only");
  return __atomic_fetch_sub(address, value, __ATOMIC_SEQ_CST);
}
template <class T>
__forceinline__ T atomicMax(T* address, std::type_identity_t<T> value) {
  return simt::atomic_update(address, [=](T old) { return old < value ? value : old; });
}
template <class T>
__forceinline__ T atomicMin(T* address, std::type_identity_t<T> value) {
  return simt::atomic_update(address, [=](T old) { return value < old ? value : old; });
}
template <class T>
__forceinline__ T atomicAnd(T* address, std::type_identity_t<T> value) {
  return simt::atomic_update(address, [=](T old) { return old & value; });
}
template <class T>
__forceinline__ T atomicOr(T* address, std::type_identity_t<T> value) {
  return simt::atomic_update(address, [=](T old) { return old | value; });
}
template <class T>
__forceinline__ T atomicXor(T* address, std::type_identity_t<T> value) {
  return simt::atomic_update(address, [=](T old) { return old ^ value; });
}
template <class T>
__forceinline__ T atomicExch(T* address, std::type_identity_t<T> value) {
  static_assert(simt::is_atomic_integer<T>, "atomics exist for integers of 4 and 8 bytes only");
  return __atomic_exchange_n(address, value, __ATOMIC_SEQ_CST);
}
template <class T>
__forceinline__ T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  static_assert(simt::is_atomic_integer<T>, "atomics exist for integers of 4 and 8 bytes only");
  __atomic_compare_exchange_n(address, &expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  return expected;
}
// Counts up and returns to zero after `limit`; counts down and returns to `limit` after zero.
__forceinline__ unsigned atomicInc(unsigned* address, unsigned limit) {
  return simt::atomic_update(address, [=](unsigned old) { return old >= limit ? 0 : old + 1; });
}
__forceinline__ unsigned atomicDec(unsigned* address, unsigned limit) {
  return simt::atomic_update(address, [=](unsigned old) { return old == 0 || old > limit ? limit : old - 1; });
}

__forceinline__ void __threadfence_block() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
__forceinline__ void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
__forceinline__ void __threadfence_system() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

#define SIMT_LOAD(name)                            \
  template <class T>                               \
  __forceinline__ T name(const T* address) {       \
    return *address;                               \
  }
#define SIMT_STORE(name)                                                     \
  template <class T>                                                         \
  __forceinline__ void name(T* address, std::type_identity_t<T> value) {     \
    *address = value;                                                        \
  }
SIMT_LOAD(__ldg)
SIMT_LOAD(__ldca)
SIMT_LOAD(__ldcg)
SIMT_LOAD(__ldcs)
SIMT_LOAD(__ldlu)
SIMT_STORE(__stwb)
SIMT_STORE(__stcg)
SIMT_STORE(__stcs)
SIMT_STORE(__stwt)
#undef SIMT_LOAD
#undef SIMT_STORE
