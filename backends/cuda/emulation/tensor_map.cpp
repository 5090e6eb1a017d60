// Tensor maps: the rules are those that cuda.h states for cuTensorMapEncodeTiled, for matrices without padding between
// rows' elements and with the swizzle of 128 bytes.
#include <cstring>
#include "driver.h"

#pragma GCC visibility push(hidden)

namespace {

constexpr uint64_t MOST_ROWS = uint64_t{1} << 32, STRIDE_LIMIT = uint64_t{1} << 40;
constexpr uint32_t MOST_BOX = 256, SWIZZLE_SPAN = 128;

CUresult wrong(const std::string& what) {
  return driver::refuse(CUDA_ERROR_INVALID_VALUE, "cuTensorMapEncodeTiled: " + what);
}

uint32_t bytes_of(CUtensorMapDataType type) {
  switch (type) {
    case CU_TENSOR_MAP_DATA_TYPE_UINT8:
      return 1;
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT16:
    case CU_TENSOR_MAP_DATA_TYPE_BFLOAT16:
      return 2;
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT32:
      return 4;
    default:
      return 0;
  }
}

}  // namespace

CUresult emulated::cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* address,
                                          const cuuint64_t* dims, const cuuint64_t* strides, const cuuint32_t* box,
                                          const cuuint32_t* element_strides, CUtensorMapInterleave interleave,
                                          CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
                                          CUtensorMapFloatOOBfill fill) {
  ENTER(cuTensorMapEncodeTiled);
  const auto number = [](uint64_t x) { return std::to_string(x); };
  if (!map || !dims || !strides || !box || !element_strides) return wrong("a pointer is null");
  if (reinterpret_cast<uintptr_t>(map) % 128 != 0) return wrong("the map is not at a multiple of 128 bytes");
  if (rank != 2 || interleave != CU_TENSOR_MAP_INTERLEAVE_NONE || swizzle != CU_TENSOR_MAP_SWIZZLE_128B ||
      promotion < 0 || promotion > CU_TENSOR_MAP_L2_PROMOTION_L2_256B || fill != CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE)
    return wrong("the emulation knows matrices with the swizzle of 128 bytes and zeros outside");
  const uint32_t element = bytes_of(type);
  if (element == 0) return wrong("the emulation knows bytes, f16, bf16 and f32");
  if (reinterpret_cast<uintptr_t>(address) % 16 != 0) return wrong("the address is no multiple of 16");
  for (int d = 0; d < 2; d++) {
    if (dims[d] < 1 || dims[d] > MOST_ROWS) return wrong("a dimension is " + number(dims[d]) + ", not 1 to 2^32");
    if (box[d] < 1 || box[d] > MOST_BOX) return wrong("a side of the box is " + number(box[d]) + ", not 1 to 256");
    if (element_strides[d] != 1) return wrong("the emulation knows element strides of 1 only");
  }
  if (strides[0] % 16 != 0 || strides[0] >= STRIDE_LIMIT)
    return wrong("the stride of rows is " + number(strides[0]) + ", no multiple of 16 below 2^40");
  if (strides[0] < dims[0] * element) return wrong("rows overlap");
  const std::string of_box = "a box's rows have " + number(box[0] * element) + " bytes, ";
  if (box[0] * element % 16 != 0) return wrong(of_box + "no multiple of 16");
  if (box[0] * element > SWIZZLE_SPAN) return wrong(of_box + "more than the swizzle's 128");
  if (!driver::is_device_range(reinterpret_cast<uintptr_t>(address), (dims[1] - 1) * strides[0] + dims[0] * element))
    return wrong("the matrix is not in device memory");
  const simt::TensorMap made{simt::TensorMap::MAGIC, element, static_cast<const unsigned char*>(address), dims[0],
                             dims[1], strides[0], box[0], box[1], {}};
  static_assert(sizeof made == sizeof *map);
  std::memcpy(map, &made, sizeof made);
  return CUDA_SUCCESS;
}
