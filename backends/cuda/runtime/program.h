// A program in memory: the file's content, validated, and what the device made of it.
#pragma once
#include "internal.h"
#include "reader.h"

typedef struct em_range {
  uint32_t arena;
  uint64_t offset, bytes;
} em_range;

typedef struct em_arena_plan {
  const char *kind;
  uint64_t bytes;
  uint64_t slot_bytes;  // 0: no slots
} em_arena_plan;

typedef struct em_blob {
  em_range range;
  const uint8_t *bytes;  // in the file
} em_blob;

typedef enum em_parameter_kind { EM_POINTER = 0, EM_SCALAR = 1, EM_TENSOR_MAP = 2 } em_parameter_kind;

typedef struct em_parameter {
  em_parameter_kind kind;
  uint64_t value;  // of a scalar; of a pointer 1 where its blocks read it in turn
  // of a tensor map: a matrix without gaps and the box that is copied at a time, in elements
  int type;
  uint32_t element_bytes, rows, width, box_rows, box_width;
} em_parameter;

typedef struct em_kernel {
  const char *entry;
  uint32_t module, threads, shared_bytes, parameter_count;
  uint32_t pointer_count, map_count;  // a tensor map counts as a pointer too
  em_parameter *parameters;
  CUkernel handle;
} em_kernel;

// A kernel that does the launches of a segment, and which kernels it has, by their numbers in its text.
typedef struct em_walker {
  em_kernel kernel;
  uint32_t kernel_count;
  uint32_t *kernels;
} em_walker;

typedef struct em_pointer {
  bool bound;
  em_range range;
} em_pointer;

typedef struct em_copy {
  em_range from, to;
} em_copy;

typedef struct em_group {
  const char *name;
  uint32_t size;
  int64_t self;  // own member number, or -1 until the host has said it
} em_group;

typedef struct em_message {
  uint32_t peer;
  em_range range;
} em_message;

typedef struct em_exchange {
  uint32_t group, channel, send_count, receive_count;
  em_message *sends, *receives;
  // Made when the program is loaded: what stays within the rank, and what carries the rest; NULL where nothing leaves
  // the rank, or the host carries it.
  uint32_t copy_count;
  em_copy *copies;
  em_communicator *communicator;
} em_exchange;

typedef enum em_step_kind { EM_LAUNCH = 0, EM_COPY = 1, EM_EXCHANGE = 2 } em_step_kind;

typedef struct em_step {
  const char *name;
  uint32_t after_count;
  uint32_t *after;
  em_step_kind kind;
  // a launch
  uint32_t kernel, grid[3];
  em_pointer *pointers;
  CUtensorMap *maps;  // of each slot in turn, among those of the program
  em_copy copy;
  em_exchange exchange;
  struct em_departure *departure;  // of an exchange that leaves in a graph of its own (departure.c)
} em_step;

typedef struct em_departure {
  const em_step *step;
  CUdeviceptr memory;  // its messages, one after the other, by slot
  uint64_t slot_bytes;
  // By slot: its graph, and when that was last done.
  CUgraphExec *graphs;
  CUevent *left;
} em_departure;

typedef struct em_port {
  const char *name;
  em_range range;
} em_port;

typedef struct em_segment {
  const char *name;
  uint32_t step_count, input_count, output_count;
  em_step *steps;
  em_port *inputs, *outputs;
  uint64_t output_bytes;
  CUgraphExec *graphs;  // by slot
  const em_walker *walker;  // NULL: the steps are nodes of the graph
  em_arena *walk;           // what the walker reads, by slot
  uint32_t departure_count;
  em_departure *departures;
} em_segment;

typedef struct em_schedule {
  struct em_schedule *next;
  uint32_t number;
  size_t count;
  CUgraphExec graph;
  em_schedule_entry entries[];
} em_schedule;

// Pinned memory of a submission in flight: its inputs, then its outputs.
typedef struct em_entry {
  uint8_t *inputs, *outputs;
  CUevent done;
  CUevent ready;  // for what departs
  uint64_t submission;
  bool held;  // by a ticket
} em_entry;

struct em_program {
  atomic_uint references;
  em_program *next;
  em_device *device;
  em_pool pool;
  bool eager;
  const char *name, *target;
  uint32_t slots;
  uint32_t group_count;
  em_group *groups;
  em_communicator **communicators;
  size_t communicator_count;
  uint32_t arena_count, data_count, module_count, kernel_count, walker_count, segment_count;
  em_arena_plan *plans;
  em_arena **arenas;
  em_blob *data;
  const char **module_names;
  em_module **modules;
  em_kernel *kernels;
  em_walker *walkers;
  em_segment *segments;
  int step_input;  // index of that arena, or -1
  CUtensorMap *maps;
  // Arguments of the launch being built.
  uint64_t *values;
  void **arguments;
  em_schedule *schedules;
  uint32_t schedule_count;
  unsigned next_entry;
  em_entry entries[EM_IN_FLIGHT];
};

// program_file.c: reads and validates; allocates nothing on a device. The data's bytes stay in the file.
bool em_program_parse(em_program *program, const void *file, size_t bytes, em_error *error);
// A kernel up to its parameters.
void em_kernel_read(em_reader *in, const em_program *program, em_kernel *kernel);

// program.c
CUdeviceptr em_program_address(const em_program *program, em_range range, uint32_t slot);
// Segment and slot exist.
bool em_program_check(const em_program *program, uint32_t segment, uint32_t slot, em_error *error);

// parameter.c: reads one of the kernel's parameters and counts it.
void em_parameter_read(em_reader *in, em_kernel *kernel, em_parameter *parameter);
// Each tensor map's matrix must lie in what is bound to it.
void em_maps_check(em_reader *in, const em_kernel *kernel, const em_step *step);
// Makes the tensor maps of all steps and slots, once.
bool em_maps_make(em_program *program, em_error *error);

// launch.c
bool em_step_launch(em_program *program, const em_segment *segment, uint32_t step, uint32_t slot, em_error *error);
// Writes a launch's arguments to the program's buffers.
void em_step_arguments(em_program *program, const em_step *step, uint32_t slot);
// Names the step in the error.
void em_step_place(em_error *error, const em_program *program, const em_segment *segment, const em_step *step);

// graph.c: messages that depart are packed only, for graphs of their own, or sent.
bool em_graph_build(em_program *program, const em_schedule_entry *entries, size_t count, bool sends,
                    CUgraphExec *graph, em_error *error);

// Nodes of a graph in the making.
typedef struct em_nodes {
  CUgraphNode *items;
  size_t count, room;
} em_nodes;
bool em_nodes_add(em_nodes *nodes, CUgraphNode node, em_error *error);
void em_nodes_free(em_nodes *nodes);
bool em_graph_add_copy(em_program *program, CUgraph graph, CUdeviceptr to, CUdeviceptr from, uint64_t bytes,
                       const em_nodes *after, em_nodes *added, em_error *error);

// walk.c: reads the walkers, and which one a segment has, whose steps are read.
void em_walkers_read(em_reader *in, em_program *program);
void em_walk_read(em_reader *in, const em_program *program, em_segment *segment);
// Makes what walkers read; the device is not entered.
bool em_walks_make(em_program *program, em_error *error);
// The segment's node in a graph.
bool em_walk_add(em_program *program, CUgraph graph, const em_segment *segment, uint32_t slot, const em_nodes *after,
                 em_nodes *added, em_error *error);
void em_walks_release(em_program *program);

// exchange.c: what exchanges copy within the rank, and which communicator carries the rest.
bool em_exchange_prepare(em_program *program, const em_rank *rank, em_error *error);
bool em_exchange_launch(em_program *program, const em_exchange *exchange, uint32_t slot, em_error *error);
// Adds the last nodes of the exchange to `added`. Messages that were packed are sent from there, others (0) from the
// arenas.
bool em_exchange_capture(em_program *program, const em_exchange *exchange, uint32_t slot, CUdeviceptr packed,
                         CUgraph graph, const em_nodes *after, em_nodes *added, em_error *error);

// departure.c: finds what departs, and makes its graphs.
bool em_departures_make(em_program *program, em_error *error);
// Bytes that a message takes there.
uint64_t em_departure_room(uint64_t bytes);
// Copies the messages to the departure's memory: the nodes of its step in the segment's graph.
bool em_departure_pack(em_program *program, const em_departure *departure, uint32_t slot, CUgraph graph,
                       const em_nodes *after, em_nodes *added, em_error *error);
// Around a segment's graph: what must have left before, and what leaves after it. `ready` is free for use.
bool em_departures_before(em_program *program, const em_segment *segment, uint32_t slot, em_error *error);
bool em_departures_launch(em_program *program, const em_segment *segment, uint32_t slot, CUevent ready,
                          em_error *error);
void em_departures_free(em_program *program);
