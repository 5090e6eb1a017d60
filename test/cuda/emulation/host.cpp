// Runs a script of driver calls, one a line, from standard input: what a test of the emulated device does is written
// in the test. Prints one line for each `read`, and `error <code> <line>: <message>` for each call that fails.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <sstream>
#include <string>
#include <vector>
#include "open_driver.h"

template <class T>
using Names = std::map<std::string, T>;

static Names<CUdeviceptr> device;
static Names<void*> pinned;
static Names<CUstream> streams;
static Names<CUevent> events;
static Names<CUgraphNode> nodes;
static Names<CUtensorMap> maps;
static Names<unsigned> shared_bytes;
static std::vector<CUlibrary> libraries;
static CUgraph graph;
static CUgraphExec executable;

// The arguments of a launch: `name` or `name+offset` is device memory, `null`, a type and a number, or a tensor map.
static std::vector<CUtensorMap> arguments_of(std::istream& words) {
  std::vector<CUtensorMap> values;
  for (std::string word; words >> word;) {
    if (const auto map = maps.find(word); map != maps.end()) {
      values.push_back(map->second);
      continue;
    }
    uint64_t value = 0;
    const std::string type = word.substr(0, 4), rest = word.size() > 4 ? word.substr(4) : "";
    if (type == "f32:") {
      const float number = std::stof(rest);
      std::memcpy(&value, &number, sizeof number);
    } else if (type == "u32:" || type == "u64:" || type == "i32:") {
      value = static_cast<uint64_t>(std::stoll(rest));
    } else if (word != "null") {
      const size_t plus = word.find('+');
      value = device.at(word.substr(0, plus)) + (plus == std::string::npos ? 0 : std::stoull(word.substr(plus + 1)));
    }
    values.push_back({{value}});
  }
  return values;
}

// One handle for each name: attributes are the handle's.
static CUfunction kernel(const std::string& name) {
  static Names<CUkernel> known;
  CUkernel& found = known[name];
  for (CUlibrary library : libraries)
    if (found || cuLibraryGetKernel(&found, library, name.c_str()) == CUDA_SUCCESS) break;
  return reinterpret_cast<CUfunction>(found);
}

static std::vector<unsigned char> from_hex(const std::string& text) {
  std::vector<unsigned char> bytes;
  for (size_t i = 0; i + 1 < text.size(); i += 2)
    bytes.push_back(static_cast<unsigned char>(std::stoi(text.substr(i, 2), nullptr, 16)));
  return bytes;
}

static void print_hex(const std::vector<unsigned char>& bytes) {
  static const char digits[] = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : bytes) (text += digits[byte >> 4]) += digits[byte & 15];
  std::printf("%s\n", text.c_str());
}

static std::vector<CUgraphNode> dependencies(const std::string& list) {
  std::vector<CUgraphNode> found;
  std::istringstream names(list);
  for (std::string name; std::getline(names, name, ',');)
    if (name != "-") found.push_back(nodes.at(name));
  return found;
}

static CUresult run(std::istream& words) {
  std::string verb, name, other;
  words >> verb;
  unsigned grid, threads;
  size_t bytes;
  if (verb == "library") {
    words >> name;
    std::ifstream file(name, std::ios::binary);
    const std::vector<char> image((std::istreambuf_iterator<char>(file)), {});
    return cuLibraryLoadData(&libraries.emplace_back(), image.data(), nullptr, nullptr, 0, nullptr, nullptr, 0);
  }
  if (verb == "order") return (words >> name, set_order(name.c_str())) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  if (verb == "alloc") return (words >> name >> bytes, cuMemAlloc(&device[name], bytes));
  if (verb == "free") return (words >> name, cuMemFree(device.at(name)));
  if (verb == "pinned") return (words >> name >> bytes, cuMemAllocHost(&pinned[name], bytes));
  if (verb == "write") {  // write <device> <hex>
    words >> name >> other;
    const auto data = from_hex(other);
    return cuMemcpyHtoDAsync(device.at(name), data.data(), data.size(), nullptr);
  }
  if (verb == "set") {  // set <pinned> <byte> <bytes>
    unsigned value;
    words >> name >> value >> bytes;
    std::memset(pinned.at(name), static_cast<int>(value), bytes);
    return CUDA_SUCCESS;
  }
  if (verb == "upload") {  // upload <stream> <device> <pinned> <bytes>
    std::string to, from;
    words >> name >> to >> from >> bytes;
    return cuMemcpyHtoDAsync(device.at(to), pinned.at(from), bytes, streams[name]);
  }
  if (verb == "read") {  // read <device> <bytes>
    words >> name >> bytes;
    std::vector<unsigned char> data(bytes);
    const CUresult result = cuMemcpyDtoHAsync(data.data(), device.at(name), bytes, nullptr);
    if (result == CUDA_SUCCESS) print_hex(data);
    return result;
  }
  if (verb == "stream") return (words >> name, cuStreamCreate(&streams[name], CU_STREAM_NON_BLOCKING));
  if (verb == "event") return (words >> name, cuEventCreate(&events[name], 0));
  if (verb == "record") return (words >> name >> other, cuEventRecord(events.at(name), streams[other]));
  if (verb == "wait") return (words >> name >> other, cuStreamWaitEvent(streams[name], events.at(other), 0));
  if (verb == "sync") return (words >> name, cuStreamSynchronize(streams[name]));
  if (verb == "reset") return cuDevicePrimaryCtxReset(0);
  if (verb == "launch") {  // launch <stream> <kernel> <grid> <threads> <arguments>
    words >> name >> other >> grid >> threads;
    std::vector<CUtensorMap> values = arguments_of(words);
    std::vector<void*> pointers;
    for (CUtensorMap& value : values) pointers.push_back(&value);
    return cuLaunchKernel(kernel(other), grid, 1, 1, threads, 1, 1, shared_bytes[other], streams[name],
                          pointers.data(), nullptr);
  }
  if (verb == "shared") {  // shared <kernel> <bytes>: what its launches give, allowed by its attribute
    words >> name >> bytes;
    shared_bytes[name] = static_cast<unsigned>(bytes);
    return cuKernelSetAttribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, static_cast<int>(bytes),
                                reinterpret_cast<CUkernel>(kernel(name)), 0);
  }
  if (verb == "map") {
    // map <name> <device or device+offset> <rows> <width> <stride> <box rows> <box width> [f32, e4m3; else bf16]
    cuuint64_t sizes[2], stride;
    cuuint32_t box[2], every[] = {1, 1};
    std::string format;
    words >> name >> other >> sizes[1] >> sizes[0] >> stride >> box[1] >> box[0] >> format;
    std::istringstream place(other);
    const auto type = format == "f32"    ? CU_TENSOR_MAP_DATA_TYPE_FLOAT32
                      : format == "e4m3" ? CU_TENSOR_MAP_DATA_TYPE_UINT8
                                         : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    return cuTensorMapEncodeTiled(&maps[name], type, 2,
                                  reinterpret_cast<void*>(arguments_of(place)[0].opaque[0]), sizes, &stride, box, every,
                                  CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                  CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  }
  if (verb == "graph") return cuGraphCreate(&graph, 0);
  if (verb == "node") {  // node <name> <dependencies or -> <kernel> <grid> <threads> <arguments>
    std::string after;
    words >> name >> after >> other >> grid >> threads;
    std::vector<CUtensorMap> values = arguments_of(words);
    std::vector<void*> pointers;
    for (CUtensorMap& value : values) pointers.push_back(&value);
    const auto edges = dependencies(after);
    CUDA_KERNEL_NODE_PARAMS node{};
    node.func = kernel(other);
    node.gridDimX = grid;
    node.blockDimX = threads;
    node.gridDimY = node.gridDimZ = node.blockDimY = node.blockDimZ = 1;
    node.kernelParams = pointers.data();
    return cuGraphAddKernelNode(&nodes[name], graph, edges.data(), edges.size(), &node);
  }
  if (verb == "copy_node") {  // copy_node <name> <dependencies or -> <to> <from: device or pinned> <bytes>
    std::string after, to, from;
    words >> name >> after >> to >> from >> bytes;
    const auto edges = dependencies(after);
    CUDA_MEMCPY3D copy{};
    const bool host = pinned.count(from);
    copy.srcMemoryType = host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
    if (host)
      copy.srcHost = pinned[from];
    else
      copy.srcDevice = device.at(from);
    copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    copy.dstDevice = device.at(to);
    copy.WidthInBytes = bytes;
    copy.Height = copy.Depth = 1;
    return cuGraphAddMemcpyNode(&nodes[name], graph, edges.data(), edges.size(), &copy, nullptr);
  }
  if (verb == "instantiate") return cuGraphInstantiateWithFlags(&executable, graph, 0);
  if (verb == "launch_graph") return (words >> name, cuGraphLaunch(executable, streams[name]));
  std::exit((std::fprintf(stderr, "no command '%s'\n", verb.c_str()), 2));
}

int main(int, char** arguments) {
  open_driver(arguments[1]);
  CUcontext context;
  if (cuInit(0) || cuDevicePrimaryCtxRetain(&context, 0) || cuCtxSetCurrent(context)) return 2;
  streams["-"] = nullptr;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    if (const CUresult error = run(words))
      std::printf("error %d %s: %s\n", error, line.substr(0, 60).c_str(), message());
  }
  std::printf("end\n");
}
