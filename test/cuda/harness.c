// Drives the C runtime without Node, so that the sanitizers see it.
//
//   cc -std=gnu11 -g -O1 -fsanitize=address,undefined -I backends/cuda/runtime backends/cuda/runtime/[!c]*.c
//      test/cuda/harness.c -ldl -lpthread -o harness
//
//   harness fuzz <program file> <rounds> <seed> [<driver> <folder of images>]
//     Damages the file at random and reads it: whatever the bytes, the runtime must answer with a typed error or a
//     program. With a driver every other round loads what it read, over arenas of the sizes that the file asks for.
//   harness session <program file> <driver> <folder of images>
//     Runs everything the runtime can do with the file, twice. Prints for each time `ok`, or the error's code.
//   harness threads <program file> <driver> <folder of images>
//     Uses one program from four threads at a time and closes the device under them. For -fsanitize=thread too.
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"
#include "reader.h"

static uint64_t state;

// xorshift64*: Vigna, An experimental exploration of Marsaglia's xorshift generators, scrambled.
static uint32_t next_random(uint32_t below) {
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return (uint32_t)((state * 0x2545f4914f6cdd1du) >> 32) % below;
}

static void put(uint8_t *at, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; i++) at[i] = (uint8_t)(value >> (8 * i));
}

// The tiny program's messages are the host's.
static const em_member MEMBER = {"pair", 1};
static const em_rank RANK = {.members = &MEMBER, .member_count = 1, .staged = true};

// `right` has the header of the file undamaged.
static void damage(uint8_t *file, size_t *bytes, const uint8_t *right) {
  static const uint64_t strange[] = {0, 1, 2, 0x7f, 0xff, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000, INT64_MAX,
                                     UINT64_MAX};
  const uint32_t changes = 1 + next_random(4);
  for (uint32_t i = 0; i < changes; i++) {
    const size_t at = next_random((uint32_t)*bytes);
    switch (next_random(6)) {
      case 0:
        file[at] ^= (uint8_t)(1 << next_random(8));
        break;
      case 1:
        file[at] = (uint8_t)next_random(256);
        break;
      case 2:
        if (at + 4 <= *bytes) put(file + at, strange[next_random(11)], 4);
        break;
      case 3:
        if (at + 8 <= *bytes) put(file + at, strange[next_random(11)], 8);
        break;
      case 4:
        if (at > 32) *bytes = at;
        break;
      default: {
        const size_t from = next_random((uint32_t)*bytes), left = *bytes - (at > from ? at : from);
        memmove(file + at, file + from, left < 16 ? left : 16);
      }
    }
  }
  // Mostly with a right header, so that the rest is read at all.
  if (*bytes >= 32 && next_random(8) > 0) {
    memcpy(file, right, 16);
    put(file + 16, *bytes - 32, 8);
    put(file + 24, em_checksum(file + 32, *bytes - 32), 8);
  }
}

static void check_error(const em_error *error) {
  static const char *codes[] = {"invalid_format", "invalid_program", "unsupported", "not_found", "out_of_memory",
                                "validation", "invalid_argument"};
  for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
    if (strcmp(codes[i], error->code) == 0 && error->message[0]) return;
  fprintf(stderr, "unexpected error %s: %s\n", error->code, error->message);
  abort();
}

static bool load(em_device *device, const em_plan *plan, const uint8_t *file, size_t bytes, em_error *error) {
  em_arena *arenas[64] = {0};
  uint32_t count = 0;
  uint64_t size;
  bool good = true;
  for (const char *kind; good && (kind = em_plan_arena(plan, count, &size)); count += good)
    good = em_arena_create(device, kind, size, false, &arenas[count], error);
  em_program *program = NULL;
  good = good && em_program_load(device, file, bytes, arenas, count, &RANK, &program, error);
  if (program) em_program_release(program);
  for (uint32_t i = 0; i < count; i++) em_arena_release(arenas[i]);
  return good;
}

static int fuzz(int count, char **arguments) {
  if (count < 3) return 2;
  size_t bytes;
  uint8_t *file = read_all(arguments[0], &bytes);
  const long rounds = atol(arguments[1]);
  state = strtoull(arguments[2], NULL, 10) * 2 + 1;
  em_device *device = NULL;
  em_error error;
  if (count > 4) {
    if (!em_device_open(arguments[3], 0, &device, &error) ||
        !load_images(device, arguments[4], file, bytes, &error)) {
      fprintf(stderr, "%s\n", error.message);
      return 2;
    }
  }
  long read = 0, loaded = 0;
  for (long i = 0; i < rounds; i++) {
    size_t size = bytes;
    // Exactly as many bytes as there are: the sanitizer sees a read past them.
    uint8_t *damaged = malloc(bytes);
    memcpy(damaged, file, bytes);
    damage(damaged, &size, file);
    uint8_t *exact = malloc(size);
    memcpy(exact, damaged, size);
    em_plan *plan = NULL;
    if (!em_plan_open(exact, size, &plan, &error)) {
      check_error(&error);
    } else {
      read++;
      if (device && i % 2 == 0) {
        if (load(device, plan, exact, size, &error))
          loaded++;
        else
          check_error(&error);
      }
      em_plan_close(plan);
    }
    free(exact);
    free(damaged);
  }
  if (device) {
    em_device_close(device);
    em_device_release(device);
  }
  free(file);
  printf("%ld rounds, %ld read, %ld loaded\n", rounds, read, loaded);
  return 0;
}

// Every segment in every way there is to run it.
static bool run_segments(em_program *program, const em_plan *plan, em_error *error) {
  uint64_t offset, bytes;
  bool good = true;
  for (uint32_t i = 0; good && em_plan_output(plan, i, 0, &offset, &bytes); i++) {
    em_ticket *ticket = NULL;
    uint32_t schedule;
    float ms;
    const em_schedule_entry entries[] = {{i, 0}, {i, 0}};
    good = em_program_submit(program, i, 0, (em_inputs){0}, &ticket, error) && em_ticket_wait(ticket, error);
    if (ticket) em_ticket_release(ticket);
    good = good && em_program_run_eager(program, i, 0, (em_inputs){0}, error) &&
           em_program_run_steps(program, i, 0, 1, 2, error) &&
           em_program_schedule(program, entries, 2, &schedule, error) &&
           em_program_run_schedule(program, schedule, (em_inputs){0}, error) &&
           em_program_time(program, i, 0, 2, &ms, error);
  }
  return good;
}

static bool use_arena(em_arena *arena, const char *path, em_error *error) {
  uint8_t bytes[16] = {0};
  em_read *read;
  return em_arena_write(arena, 0, bytes, sizeof bytes, error) && em_read_begin(arena, 0, 16, &read, error) &&
         em_read_finish(read, bytes, error) && em_arena_write_file(arena, 0, path, 0, 16, error) &&
         em_arena_fill(arena, 0, error);
}

static bool session(const char *path, const char *driver, const char *images, const uint8_t *file, size_t bytes,
                    em_error *error) {
  em_device *device;
  em_plan *plan = NULL;
  em_arena *arenas[64] = {0};
  em_program *program = NULL;
  em_ticket *ticket = NULL;
  uint32_t count = 0;
  uint64_t size, total;
  if (!em_device_open(driver, 0, &device, error)) return false;
  bool good = em_plan_open(file, bytes, &plan, error) && load_images(device, images, file, bytes, error);
  for (const char *kind; good && (kind = em_plan_arena(plan, count, &size)); count += good)
    good = em_arena_create(device, kind, size, true, &arenas[count], error);
  good = good && em_program_load(device, file, bytes, arenas, count, &RANK, &program, error) &&
         run_segments(program, plan, error) && use_arena(arenas[0], path, error) &&
         em_device_memory(device, &size, &total, error) && em_device_mark(device, &ticket, error) &&
         em_ticket_wait(ticket, error);
  // Half of the objects outlive the device.
  if (program) em_program_release(program);
  em_device_close(device);
  for (uint32_t i = 0; i < count; i++) em_arena_release(arenas[i]);
  if (ticket) em_ticket_release(ticket);
  if (plan) em_plan_close(plan);
  em_device_release(device);
  return good;
}

static int sessions(int count, char **arguments) {
  if (count < 3) return 2;
  size_t bytes;
  uint8_t *file = read_all(arguments[0], &bytes);
  for (int i = 0; i < 2; i++) {
    em_error error;
    const bool good = session(arguments[0], arguments[1], arguments[2], file, bytes, &error);
    printf("%s\n", good ? "ok" : error.code);
    if (!good) fprintf(stderr, "%s\n", error.message);
  }
  free(file);
  return 0;
}

// What the four threads share.
typedef struct shared {
  em_program *program;
  em_arena *arena;
  em_device *device;
  uint64_t arena_bytes;
} shared;

static void *use_program(void *argument) {
  const shared *all = argument;
  uint8_t *bytes = calloc(1, (size_t)all->arena_bytes);
  em_error error = {0};
  bool good = true;
  long rounds = 0;
  for (; good; rounds++) {
    em_ticket *ticket = NULL;
    em_read *read = NULL;
    switch (rounds % 5) {
      case 0:
        good = em_program_submit(all->program, 0, 0, (em_inputs){0}, &ticket, &error);
        break;
      case 1:
        good = em_read_begin(all->arena, 0, all->arena_bytes, &read, &error);
        if (good) good = em_read_finish(read, bytes, &error);
        break;
      case 2:
        good = em_arena_write(all->arena, 0, bytes, all->arena_bytes, &error);
        break;
      case 3:
        good = em_program_submit(all->program, 0, 0, (em_inputs){0}, NULL, &error);
        break;
      default:
        good = em_device_mark(all->device, &ticket, &error);
    }
    if (ticket) {
      good = em_ticket_wait(ticket, &error);
      em_ticket_release(ticket);
    }
  }
  free(bytes);
  if (strcmp(error.code, "invalid_argument") != 0) {
    fprintf(stderr, "unexpected error %s: %s\n", error.code, error.message);
    abort();
  }
  return NULL;
}

static int threads(int count, char **arguments) {
  if (count < 3) return 2;
  // A deadlock ends here.
  alarm(60);
  size_t bytes;
  uint8_t *file = read_all(arguments[0], &bytes);
  em_error error;
  shared all = {0};
  em_plan *plan;
  em_arena *arenas[64] = {0};
  uint32_t arena_count = 0;
  uint64_t size;
  bool good = em_device_open(arguments[1], 0, &all.device, &error) && em_plan_open(file, bytes, &plan, &error) &&
              load_images(all.device, arguments[2], file, bytes, &error);
  for (const char *kind; good && (kind = em_plan_arena(plan, arena_count, &size)); arena_count += good)
    good = em_arena_create(all.device, kind, size, true, &arenas[arena_count], &error);
  // Larger than the staging memory: reading it keeps the others out.
  all.arena_bytes = (40 << 20) + 4;
  good = good && em_program_load(all.device, file, bytes, arenas, arena_count, &RANK, &all.program, &error) &&
         em_arena_create(all.device, "large", all.arena_bytes, true, &all.arena, &error);
  if (!good) {
    fprintf(stderr, "%s\n", error.message);
    return 2;
  }
  pthread_t users[4];
  for (int i = 0; i < 4; i++) pthread_create(&users[i], NULL, use_program, &all);
  usleep(500 * 1000);
  em_device_close(all.device);
  for (int i = 0; i < 4; i++) pthread_join(users[i], NULL);
  em_program_release(all.program);
  em_arena_release(all.arena);
  for (uint32_t i = 0; i < arena_count; i++) em_arena_release(arenas[i]);
  em_plan_close(plan);
  em_device_release(all.device);
  free(file);
  printf("ok\n");
  return 0;
}

int main(int count, char **arguments) {
  if (count > 1 && strcmp(arguments[1], "fuzz") == 0) return fuzz(count - 2, arguments + 2);
  if (count > 1 && strcmp(arguments[1], "session") == 0) return sessions(count - 2, arguments + 2);
  if (count > 1 && strcmp(arguments[1], "threads") == 0) return threads(count - 2, arguments + 2);
  return 2;
}
