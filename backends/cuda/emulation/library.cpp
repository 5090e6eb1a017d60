// Kernel libraries stand where cubins stand on hardware: shared objects of this machine, loaded from their bytes.
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>
#include <algorithm>
#include <cstring>
#include "driver.h"

#pragma GCC visibility push(hidden)

namespace driver {

#ifdef __x86_64__
constexpr uint16_t HOST_MACHINE = EM_X86_64;
#else
constexpr uint16_t HOST_MACHINE = EM_AARCH64;
#endif
constexpr uint16_t CUDA_MACHINE = 190;
// No offset of a sane image is beyond it; a wrong one would make the copy below read anything.
constexpr uint64_t IMAGE_LIMIT = uint64_t{1} << 30;

Table<CUlibrary, Library>& libraries() {
  static auto& table = *new Table<CUlibrary, Library>();
  return table;
}
Table<CUkernel, LoadedKernel>& kernels() {
  static auto& table = *new Table<CUkernel, LoadedKernel>();
  return table;
}

Library::~Library() {
  if (handle) dlclose(handle);
  // The loader knows libraries by path: the file's number may not be used again while it remembers this one.
  if (file >= 0 && !dlopen(path.c_str(), RTLD_LAZY | RTLD_NOLOAD)) close(file);
}

// The bytes of an ELF image and those it takes when loaded, from its headers: the driver is given no length.
static CUresult image_bytes(const void* image, size_t& bytes, size_t& loaded_bytes) {
  ElfW(Ehdr) header;
  const auto* start = static_cast<const unsigned char*>(image);
  if (std::memcmp(start, ELFMAG, SELFMAG) != 0) return refuse(CUDA_ERROR_INVALID_IMAGE, "the image is no ELF file");
  std::memcpy(&header, image, sizeof header);
  if (header.e_machine == CUDA_MACHINE)
    return refuse(CUDA_ERROR_NO_BINARY_FOR_GPU, "the image is a cubin; the emulated device runs code of the host");
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != HOST_MACHINE || header.e_type != ET_DYN)
    return refuse(CUDA_ERROR_INVALID_IMAGE, "the image is no 64-bit shared object of this machine");
  if (header.e_phentsize != sizeof(ElfW(Phdr)) || header.e_phoff > IMAGE_LIMIT || header.e_shoff > IMAGE_LIMIT)
    return refuse(CUDA_ERROR_INVALID_IMAGE, "the image's headers are damaged");
  uint64_t end = std::max<uint64_t>(header.e_shoff + uint64_t{header.e_shnum} * header.e_shentsize,
                                    header.e_phoff + uint64_t{header.e_phnum} * sizeof(ElfW(Phdr)));
  for (unsigned i = 0; i < header.e_phnum; i++) {
    ElfW(Phdr) segment;
    std::memcpy(&segment, start + header.e_phoff + i * sizeof segment, sizeof segment);
    if (segment.p_offset > IMAGE_LIMIT || segment.p_filesz > IMAGE_LIMIT)
      return refuse(CUDA_ERROR_INVALID_IMAGE, "the image's segments are damaged");
    if (segment.p_type != PT_LOAD) continue;
    end = std::max<uint64_t>(end, segment.p_offset + segment.p_filesz);
    loaded_bytes = std::max<size_t>(loaded_bytes, segment.p_vaddr + segment.p_memsz);
  }
  bytes = end;
  return CUDA_SUCCESS;
}

static CUresult load(const void* image, Library& library) {
  size_t bytes = 0, loaded_bytes = 0;
  if (const CUresult damaged = image_bytes(image, bytes, loaded_bytes)) return damaged;
  library.file = memfd_create("exactmap-kernels", MFD_CLOEXEC);
  if (library.file < 0) return CUDA_ERROR_OUT_OF_MEMORY;
  for (size_t written = 0; written < bytes;) {
    const ssize_t count = write(library.file, static_cast<const char*>(image) + written, bytes - written);
    if (count <= 0) return refuse(CUDA_ERROR_OUT_OF_MEMORY, "the image can't be copied");
    written += static_cast<size_t>(count);
  }
  library.path = "/proc/self/fd/" + std::to_string(library.file);
  library.handle = dlopen(library.path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library.handle) return refuse(CUDA_ERROR_INVALID_IMAGE, dlerror());
  const link_map* loaded = nullptr;
  if (dlinfo(library.handle, RTLD_DI_LINKMAP, &loaded) != 0) return CUDA_ERROR_INVALID_IMAGE;
  library.code = {loaded->l_addr, loaded->l_addr + loaded_bytes};
  void* open = dlsym(library.handle, "exactmap_emulated_library");
  if (!open) return refuse(CUDA_ERROR_INVALID_IMAGE, "the image is no kernel library");
  library.kernels = reinterpret_cast<simt::OpenLibrary*>(open)(&simt::emulated_runtime);
  if (library.kernels->abi_version != simt::ABI_VERSION)
    return refuse(CUDA_ERROR_INVALID_IMAGE, "the kernel library was built against another version of simt.h");
  for (const simt::Kernel* kernel = library.kernels->first; kernel; kernel = kernel->next)
    for (uint32_t i = 0; i < kernel->parameter_count; i++)
      if (kernel->parameter_bytes[i] > sizeof(simt::TensorMap))
        return refuse(CUDA_ERROR_INVALID_IMAGE,
                      std::string("a parameter of kernel '") + kernel->name + "' has more than 128 bytes");
  return CUDA_SUCCESS;
}

CUresult make_call(CUfunction function, dim3 grid, dim3 block, unsigned shared_bytes, void** parameters, void** extra,
                   Call& call) {
  call.kernel = kernels().find(reinterpret_cast<CUkernel>(function));
  if (!call.kernel) return CUDA_ERROR_INVALID_HANDLE;
  const simt::Kernel& kernel = *call.kernel->kernel;
  if (extra || block.y != 1 || block.z != 1 || block.x == 0 || grid.x == 0 || grid.y == 0 ||
      grid.z == 0 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535 ||
      (kernel.parameter_count > 0 && !parameters))
    return refuse(CUDA_ERROR_INVALID_VALUE, std::string("kernel '") + kernel.name + "': the launch is invalid");
  if (block.x > kernel.threads)
    return refuse(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES,
                  std::string("kernel '") + kernel.name + "' has launch bounds of " + std::to_string(kernel.threads) +
                    " threads, not " + std::to_string(block.x));
  if (shared_bytes != kernel.dynamic_shared || shared_bytes > call.kernel->shared_limit)
    return refuse(CUDA_ERROR_INVALID_VALUE,
                  std::string("kernel '") + kernel.name + "' has " + std::to_string(kernel.dynamic_shared) +
                    " bytes of dynamic shared memory; the launch gives " + std::to_string(shared_bytes) +
                    ", up to " + std::to_string(call.kernel->shared_limit) + " are allowed by its attribute");
  if (grid.x % kernel.cluster != 0)
    return refuse(CUDA_ERROR_INVALID_VALUE, std::string("kernel '") + kernel.name + "' has clusters of " +
                                              std::to_string(kernel.cluster) + " blocks, the grid " +
                                              std::to_string(grid.x));
  call.grid = grid;
  call.threads = block.x;
  call.values.assign(kernel.parameter_count, {});
  for (uint32_t i = 0; i < kernel.parameter_count; i++)
    std::memcpy(&call.values[i], parameters[i], kernel.parameter_bytes[i]);
  return CUDA_SUCCESS;
}

static CUresult error_of(simt::Failure failure) {
  switch (failure) {
    case simt::Failure::illegal_address:
      return CUDA_ERROR_ILLEGAL_ADDRESS;
    case simt::Failure::timeout:
      return CUDA_ERROR_LAUNCH_TIMEOUT;
    default:
      return CUDA_ERROR_LAUNCH_FAILED;
  }
}

void run_call(const Call& call, Context& context, simt::Worker& worker) {
  std::vector<simt::TensorMap> values = call.values;
  std::vector<void*> parameters;
  for (simt::TensorMap& value : values) parameters.push_back(&value);
  const simt::Kernel& kernel = *call.kernel->kernel;
  simt::Launch launch(kernel, call.kernel->library->code, parameters.data(), call.grid, call.threads);
  simt::run_launch(launch, worker);
  if (launch.failed()) {
    context.fail(error_of(launch.failure()), launch.message());
  } else if (const std::string overrun = overrun_allocation(); !overrun.empty()) {
    context.fail(CUDA_ERROR_ILLEGAL_ADDRESS, std::string("kernel '") + kernel.name + "' " + overrun);
  }
}

}  // namespace driver

using namespace driver;

CUresult emulated::cuLibraryLoadData(CUlibrary* handle, const void* image, CUjit_option*, void**, unsigned int,
                                     CUlibraryOption*, void**, unsigned int) {
  ENTER(cuLibraryLoadData);
  if (!handle || !image) return CUDA_ERROR_INVALID_VALUE;
  const auto library = std::make_shared<Library>();
  if (const CUresult failed = load(image, *library)) return failed;
  *handle = libraries().add(library);
  return CUDA_SUCCESS;
}

CUresult emulated::cuLibraryUnload(CUlibrary handle) {
  ENTER(cuLibraryUnload);
  const auto library = libraries().remove(handle);
  if (!library) return CUDA_ERROR_INVALID_HANDLE;
  kernels().remove_if([&](const LoadedKernel& kernel) { return kernel.library == library; });
  return CUDA_SUCCESS;
}

CUresult emulated::cuLibraryGetKernel(CUkernel* handle, CUlibrary library_handle, const char* name) {
  ENTER(cuLibraryGetKernel);
  const auto library = libraries().find(library_handle);
  if (!library) return CUDA_ERROR_INVALID_HANDLE;
  for (const simt::Kernel* kernel = library->kernels->first; kernel; kernel = kernel->next)
    if (std::strcmp(kernel->name, name) == 0) {
      *handle = kernels().add(std::make_shared<LoadedKernel>(library, kernel));
      return CUDA_SUCCESS;
    }
  return CUDA_ERROR_NOT_FOUND;
}

CUresult emulated::cuKernelSetAttribute(CUfunction_attribute attribute, int value, CUkernel handle, CUdevice) {
  ENTER(cuKernelSetAttribute);
  const auto kernel = kernels().find(handle);
  if (!kernel) return CUDA_ERROR_INVALID_HANDLE;
  if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) return CUDA_ERROR_INVALID_VALUE;
  constexpr int LIMIT = 227 * 1024;
  if (value < 0 || value > LIMIT)
    return refuse(CUDA_ERROR_INVALID_VALUE,
                  "a block has at most 227 KB of shared memory, not " + std::to_string(value));
  kernel->shared_limit = static_cast<uint32_t>(value);
  return CUDA_SUCCESS;
}

CUresult emulated::cuLaunchKernel(CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,
                                  unsigned int block_x, unsigned int block_y, unsigned int block_z,
                                  unsigned int shared_bytes, CUstream handle, void** parameters, void** extra) {
  ENTER_CONTEXT(cuLaunchKernel);
  const std::shared_ptr<Stream> stream = find_stream(handle, *context);
  if (!stream) return CUDA_ERROR_INVALID_HANDLE;
  Call call;
  const CUresult invalid = make_call(function, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, shared_bytes,
                                     parameters, extra, call);
  if (invalid) return invalid;
  const auto captured = capture(*stream, [&](Work& work) {
    work = call;
    return CUDA_SUCCESS;
  });
  if (captured) return *captured;
  stream->enqueue([call = std::move(call), owner = stream->context](simt::Worker& worker) {
    run_call(call, *owner, worker);
  });
  return CUDA_SUCCESS;
}
