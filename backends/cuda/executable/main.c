// exactmap-cuda: runs what `exactmap export` wrote, without Node.
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"

static const char USAGE[] =
    "usage: exactmap-cuda <command> [options]\n"
    "\n"
    "  info              the driver and its devices\n"
    "  verify <folder>   run the stored vectors of an exported folder and compare every element\n"
    "  run <folder>      continue a prompt with an exported model\n"
    "\n"
    "  --driver <path>   driver library (default libcuda.so.1)\n"
    "  --device <n>      counted from 0 (default 0)\n"
    "  --json            records instead of text\n"
    "verify:\n"
    "  --only <prefix>   only cases whose op/case starts with this\n"
    "  --asked           the cases that standard input names, one a line, as the lines come\n"
    "  --bytes           with --json: wrong outputs whole, in base64\n"
    "run:\n"
    "  --tokens <ids>    prompt as token ids separated by commas (default: the folder's)\n"
    "  --max-tokens <n>  new tokens at most (default 64)\n"
    "  --seed <n>        of the sampling (default 0)\n"
    "  --temperature <x> 0: always the most probable token (default)\n"
    "  --top-k <k>       0: off (default)\n"
    "  --top-p <p>       1: off (default)\n"
    "  --min-p <p>       0: off (default)\n"
    "  --repetition-penalty <x>  1: off (default)\n";

static bool refuse(const char *format, const char *a, const char *b) {
  fprintf(stderr, "exactmap-cuda: invalid_argument: ");
  fprintf(stderr, format, a, b);
  fprintf(stderr, "\n");
  return false;
}

static bool parse_number(const char *name, const char *text, double low, double high, bool whole, double *value) {
  char *end;
  errno = 0;
  *value = strtod(text, &end);
  if (end != text && !*end && !errno && *value >= low && *value <= high && (!whole || *value == floor(*value)))
    return true;
  return refuse("%s does not take '%s'", name, text);
}

typedef struct number_option {
  const char *name;
  double low, high;
  bool whole;
} number_option;

enum { DEVICE, MAX_TOKENS, SEED, TEMPERATURE, TOP_K, TOP_P, MIN_P, PENALTY, NUMBERS };

// The ranges of src/engine/sampling.ts.
static const number_option numbers[NUMBERS] = {
    [DEVICE] = {"--device", 0, 1023, true},
    [MAX_TOKENS] = {"--max-tokens", 1, 1 << 24, true},
    [SEED] = {"--seed", 0, 9007199254740991.0, true},
    [TEMPERATURE] = {"--temperature", 0, 100, false},
    [TOP_K] = {"--top-k", 0, 1 << 24, true},
    [TOP_P] = {"--top-p", 1e-30, 1, false},
    [MIN_P] = {"--min-p", 0, 1, false},
    [PENALTY] = {"--repetition-penalty", 0.01, 100, false},
};

static void set_number(host_options *options, int which, double value) {
  switch (which) {
    case DEVICE:
      options->device = (int)value;
      break;
    case MAX_TOKENS:
      options->max_tokens = (uint32_t)value;
      break;
    case SEED:
      options->seed = (uint64_t)value;
      break;
    default:
      options->sampling[which - TEMPERATURE] = (float)value;
  }
}

static bool parse(int count, char **arguments, host_options *options) {
  for (int i = 2; i < count; i++) {
    const char *name = arguments[i];
    if (name[0] != '-') {
      if (options->folder) return refuse("one folder is enough: %s or %s", options->folder, name);
      options->folder = name;
      continue;
    }
    bool *flag = strcmp(name, "--json") == 0    ? &options->json
                 : strcmp(name, "--asked") == 0 ? &options->asked
                 : strcmp(name, "--bytes") == 0 ? &options->bytes
                                                : NULL;
    if (flag) {
      *flag = true;
      continue;
    }
    if (i + 1 >= count) return refuse("unknown option %s, or its value is missing%s", name, "");
    const char *value = arguments[++i];
    int which = 0;
    while (which < NUMBERS && strcmp(numbers[which].name, name) != 0) which++;
    if (which < NUMBERS) {
      double number;
      if (!parse_number(name, value, numbers[which].low, numbers[which].high, numbers[which].whole, &number))
        return false;
      set_number(options, which, number);
    } else if (strcmp(name, "--driver") == 0) {
      options->driver = value;
    } else if (strcmp(name, "--only") == 0) {
      options->only = value;
    } else if (strcmp(name, "--tokens") == 0) {
      options->tokens = value;
    } else {
      return refuse("unknown option %s%s", name, "");
    }
  }
  return true;
}

int info_command(const host_options *options) {
  em_error error = {0};
  int version = 0, count = 0;
  if (!em_driver_probe(options->driver, &version, &count, &error)) {
    host_print_error(&error);
    return 1;
  }
  if (options->json)
    printf("{\"version\":%d,\"devices\":[", version);
  else
    printf("driver for CUDA %d.%d, %d devices\n", version / 1000, version % 1000 / 10, count);
  for (int i = 0; i < count; i++) {
    em_device_info info;
    const char *kernels;
    if (!em_device_probe(options->driver, i, &info, &error)) {
      host_print_error(&error);
      return 1;
    }
    if (!host_kernel_folder(&info, &kernels, &error)) kernels = "none";
    if (options->json) {
      printf("%s{\"name\":", i > 0 ? "," : "");
      host_print_json(info.name, strlen(info.name));
      printf(",\"capability\":%d,\"multiprocessors\":%d,\"memory\":%llu,\"kernels\":\"%s\"}", info.capability,
             info.multiprocessors, (unsigned long long)info.memory, kernels);
    } else {
      printf("%d: %s, compute capability %d.%d, %d multiprocessors, %.1f GiB, kernels %s\n", i, info.name,
             info.capability / 10, info.capability % 10, info.multiprocessors,
             (double)info.memory / (1024.0 * 1024.0 * 1024.0), kernels);
    }
  }
  if (options->json) printf("]}\n");
  return 0;
}

int main(int count, char **arguments) {
  const char *command = count > 1 ? arguments[1] : "--help";
  if (strcmp(command, "--help") == 0 || strcmp(command, "-h") == 0) {
    fputs(USAGE, stdout);
    return count > 1 ? 0 : 2;
  }
  host_options options = {.max_tokens = 64, .sampling = {[TOP_P - TEMPERATURE] = 1, [PENALTY - TEMPERATURE] = 1}};
  if (!parse(count, arguments, &options)) return 2;
  const bool is_info = strcmp(command, "info") == 0;
  if (!is_info && strcmp(command, "verify") != 0 && strcmp(command, "run") != 0) {
    refuse("unknown command %s; there are info, verify and run%s", command, "");
    return 2;
  }
  if (!is_info && !options.folder) {
    refuse("%s needs a folder that exactmap export wrote%s", command, "");
    return 2;
  }
  if (is_info) return info_command(&options);
  return strcmp(command, "verify") == 0 ? verify_command(&options) : run_command(&options);
}
