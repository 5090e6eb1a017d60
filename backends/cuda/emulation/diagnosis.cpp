// Words for what the threads of a block wait at.
#include <algorithm>
#include <utility>
#include "block.h"

#pragma GCC visibility push(hidden)

namespace simt {

static const char* name_of(Collective collective) {
  switch (collective) {
    case Collective::none:
      return "nothing";
    case Collective::barrier:
      return "__syncthreads";
    case Collective::barrier_count:
      return "__syncthreads_count";
    case Collective::barrier_and:
      return "__syncthreads_and";
    case Collective::barrier_or:
      return "__syncthreads_or";
    case Collective::barrier_of_some:
      return "a barrier of some threads";
    case Collective::syncwarp:
      return "__syncwarp";
    case Collective::shuffle:
      return "a shuffle";
    case Collective::ballot:
      return "__ballot_sync";
    case Collective::any:
      return "__any_sync";
    case Collective::all:
      return "__all_sync";
    case Collective::match_any:
      return "__match_any_sync";
    case Collective::match_all:
      return "__match_all_sync";
    case Collective::reduce_add:
      return "__reduce_add_sync";
    case Collective::reduce_min:
    case Collective::reduce_min_signed:
      return "__reduce_min_sync";
    case Collective::reduce_max:
    case Collective::reduce_max_signed:
      return "__reduce_max_sync";
    case Collective::reduce_and:
      return "__reduce_and_sync";
    case Collective::reduce_or:
      return "__reduce_or_sync";
    case Collective::reduce_xor:
      return "__reduce_xor_sync";
    case Collective::yield:
      return "a change of memory";
  }
  return "";
}

// "threads 0-31, 40": ranges of increasing numbers.
static std::string threads_text(const std::vector<uint32_t>& ids) {
  std::string text = ids.size() == 1 ? "thread " : "threads ";
  for (size_t i = 0; i < ids.size();) {
    size_t last = i;
    while (last + 1 < ids.size() && ids[last + 1] == ids[last] + 1) last++;
    if (i > 0) text += ", ";
    text += std::to_string(ids[i]);
    if (last > i) text += "-" + std::to_string(ids[last]);
    i = last + 1;
  }
  return text;
}

static std::string hex(uint32_t value) {
  char text[16];
  snprintf(text, sizeof text, "0x%08x", value);
  return text;
}

std::string Block::waits() const {
  std::vector<std::pair<std::string, std::vector<uint32_t>>> groups;
  for (uint32_t id = 0; id < threads_; id++) {
    const Fiber* fiber = live_[id];
    std::string what;
    if (!fiber) {
      what = warps_[id / WARP].exited >> id % WARP & 1 ? "exited" : "not started";
    } else {
      const std::string file = fiber->site.file_name();
      what = "at " + std::string(name_of(fiber->collective));
      if (fiber->collective >= Collective::syncwarp && fiber->collective < Collective::yield)
        what += " of lanes " + hex(fiber->mask);
      what += " (" + file.substr(file.rfind('/') + 1) + ":" + std::to_string(fiber->site.line()) + ")";
    }
    const auto same = [&](const auto& group) { return group.first == what; };
    auto group = std::find_if(groups.begin(), groups.end(), same);
    if (group == groups.end()) group = groups.insert(group, {what, {}});
    group->second.push_back(id);
  }
  std::string text;
  for (const auto& [what, ids] : groups) text += (text.empty() ? "" : "; ") + threads_text(ids) + " " + what;
  return text;
}

std::string Block::place() const {
  const auto number = [](uint32_t x) { return std::to_string(x); };
  const std::string index = launch_->grid.y * uint64_t{launch_->grid.z} == 1
                              ? number(index_.x)
                              : "(" + number(index_.x) + ", " + number(index_.y) + ", " + number(index_.z) + ")";
  return std::string("kernel '") + kernel_->name + "', block " + index;
}

}  // namespace simt
