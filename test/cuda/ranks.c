// Several ranks of one program without Node, so that the sanitizers see them.
//
//   ranks <processes | threads> <driver> <nccl> <folder of images> <rounds> <victim> <program file of each rank...>
//     Ranks are processes with one device each, or threads of one process with devices of their own. The program is one
//     of ranks.test.ts: y of a rank is twice the x of the rank before it, and where there is a second segment its
//     output is twice the y of the rank before. The victim, if there is one (not -1), kills
//     its process in the middle. Prints a line for each other rank: `ok`, or how it failed.
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"

enum { CHANNELS = 3, MOST_RANKS = 8, MOST_WORDS = 4096 };

typedef struct run {
  const char *driver, *nccl, *images;
  uint32_t size;
  int rounds, victim;
  uint8_t ids[CHANNELS][EM_NCCL_ID_BYTES];
} run;

typedef struct rank {
  const run *run;
  uint32_t number;
  int device_index;
  const char *file;
  em_device *device;
  em_plan *plan;
  em_arena *arenas[8];
  uint32_t arena_count;
  em_communicator *communicators[CHANNELS];
  em_program *program;
} rank;

static bool load(rank *self, uint8_t *file, size_t bytes, em_error *error) {
  const run *all = self->run;
  uint64_t size;
  if (!em_device_open(all->driver, self->device_index, &self->device, error) ||
      !em_plan_open(file, bytes, &self->plan, error) || !load_images(self->device, all->images, file, bytes, error))
    return false;
  for (const char *kind; (kind = em_plan_arena(self->plan, self->arena_count, &size)); self->arena_count++)
    if (!em_arena_create(self->device, kind, size, true, &self->arenas[self->arena_count], error)) return false;
  for (uint32_t channel = 0; channel < CHANNELS; channel++) {
    const em_communicator_place place = {"all", channel, self->number, all->size};
    if (!em_communicator_create(self->device, all->nccl, place, all->ids[channel], 20,
                                &self->communicators[channel], error))
      return false;
  }
  const em_member member = {"all", self->number};
  const em_rank given = {.members = &member,
                         .member_count = 1,
                         .communicators = self->communicators,
                         .communicator_count = CHANNELS};
  return em_program_load(self->device, file, bytes, self->arenas, self->arena_count, &given, &self->program, error);
}

static float value(int round, uint32_t number, uint32_t i) {
  return (float)(1000 * round + 100 * (int)number + (int)i);
}

// Runs a segment, whose output is `factor` times the x of the rank `distance` before.
static bool run_segment(rank *self, uint32_t segment, em_inputs inputs, int round, uint32_t distance, float factor,
                        em_error *error) {
  const uint32_t words = (uint32_t)(em_program_output_bytes(self->program, segment) / 4), size = self->run->size;
  const uint32_t from = (self->number + 2 * size - distance) % size;
  em_ticket *ticket;
  if (!em_program_submit(self->program, segment, 0, inputs, &ticket, error)) return false;
  bool good = em_ticket_wait(ticket, error);
  size_t count;
  const float *y = (const float *)em_ticket_outputs(ticket, &count);
  for (uint32_t i = 0; good && i < words; i++) {
    const float want = factor * value(round, from, i);
    if (y[i] == want) continue;
    snprintf(error->message, sizeof error->message, "round %d: y[%u] is %g, not %g", round, i, (double)y[i],
             (double)want);
    error->code = "wrong";
    good = false;
  }
  em_ticket_release(ticket);
  return good;
}

static bool run_round(rank *self, int round, em_error *error) {
  uint64_t offset, bytes;
  float x[MOST_WORDS];
  em_plan_input(self->plan, 0, 0, &offset, &bytes);
  for (uint32_t i = 0; i < bytes / 4; i++) x[i] = value(round, self->number, i);
  return run_segment(self, 0, (em_inputs){offset, x, bytes}, round, 1, 2, error) &&
         (em_plan_segment(self->plan, "second") < 0 ||
          run_segment(self, 1, (em_inputs){0}, round, 2, 4, error));
}

static bool run_all(rank *self, em_error *error) {
  const em_schedule_entry twice[] = {{0, 0}, {0, 0}};
  uint32_t schedule = 0;
  bool good = em_program_schedule(self->program, twice, 2, &schedule, error);
  for (int round = 0; good && round < self->run->rounds; round++) {
    if ((int)self->number == self->run->victim && round == self->run->rounds / 2) kill(getpid(), SIGKILL);
    // In a schedule's graph the second segment would wait for the send that its like on another rank takes.
    const bool scheduled = em_plan_segment(self->plan, "second") < 0;
    if (scheduled && round % 10 == 0) good = em_program_run_schedule(self->program, schedule, (em_inputs){0}, error);
    good = good && run_round(self, round, error);
  }
  return good;
}

static void *run_rank(void *argument) {
  rank *self = argument;
  size_t bytes;
  uint8_t *file = read_all(self->file, &bytes);
  em_error error = {0};
  const bool good = load(self, file, bytes, &error) && run_all(self, &error);
  // Communicators outlive the program, and the device them.
  if (self->program) em_program_release(self->program);
  for (int i = 0; i < CHANNELS; i++)
    if (self->communicators[i]) em_communicator_release(self->communicators[i]);
  if (self->device) em_device_close(self->device);
  for (uint32_t i = 0; i < self->arena_count; i++) em_arena_release(self->arenas[i]);
  if (self->plan) em_plan_close(self->plan);
  if (self->device) em_device_release(self->device);
  free(file);
  if (good)
    printf("ok\n");
  else
    printf("%s: %s\n", error.code, error.message);
  fflush(stdout);
  return NULL;
}

int main(int count, char **arguments) {
  if (count < 9 || count - 7 > MOST_RANKS) return 2;
  // A deadlock ends here.
  alarm(50);
  const bool processes = strcmp(arguments[1], "processes") == 0;
  run all = {.driver = arguments[2],
             .nccl = arguments[3],
             .images = arguments[4],
             .size = (uint32_t)(count - 7),
             .rounds = atoi(arguments[5]),
             .victim = atoi(arguments[6])};
  em_error error;
  for (int i = 0; i < CHANNELS; i++)
    if (!em_nccl_make_id(all.nccl, all.ids[i], &error)) {
      fprintf(stderr, "%s\n", error.message);
      return 2;
    }
  rank ranks[MOST_RANKS] = {0};
  pthread_t threads[MOST_RANKS];
  for (uint32_t i = 0; i < all.size; i++) {
    ranks[i].run = &all;
    ranks[i].number = i;
    ranks[i].device_index = processes ? 0 : (int)i;
    ranks[i].file = arguments[7 + i];
    if (!processes) {
      pthread_create(&threads[i], NULL, run_rank, &ranks[i]);
    } else if (fork() == 0) {
      alarm(50);
      run_rank(&ranks[i]);
      return 0;
    }
  }
  for (uint32_t i = 0; i < all.size; i++)
    if (processes)
      wait(NULL);
    else
      pthread_join(threads[i], NULL);
  return 0;
}
