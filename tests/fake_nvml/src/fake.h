/* Shared by the fake driver's files: the machine it pretends to be, and entering and leaving calls. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
    NVML_SUCCESS = 0,
    NVML_ERROR_UNINITIALIZED = 1,
    NVML_ERROR_INVALID_ARGUMENT = 2,
    NVML_ERROR_NOT_SUPPORTED = 3,
    NVML_ERROR_NOT_FOUND = 6,
    NVML_ERROR_INSUFFICIENT_SIZE = 7,
    NVML_ERROR_DRIVER_NOT_LOADED = 9,
    NVML_ERROR_GPU_IS_LOST = 15,
    NVML_ERROR_ARGUMENT_VERSION_MISMATCH = 25,
};

enum { MAX_GPUS = 64, MAX_SLICES = 8, MAX_PROCESSES = 4096, MAX_INJECTIONS = 256, TEXT = 96 };

#define PUBLIC __attribute__((visibility("default")))
#define NO_INSTANCE 0xFFFFFFFFu
#define BYTES_UNKNOWN UINT64_MAX

typedef int nvmlReturn_t;

/* What a handle points to; `slice` is -1 for the whole GPU. */
struct handle {
    int gpu;
    int slice;
};
typedef const struct handle *nvmlDevice_t;

struct slice {
    bool present;
    char uuid[TEXT];
    unsigned gpu_instance;
    uint64_t total;
};

/* Negative figures are ones this GPU does not support. */
struct gpu {
    bool present, mig, lost;
    char name[TEXT], uuid[TEXT];
    uint64_t total, reserved, hidden;
    long utilization, temperature, milliwatts;
    struct slice slices[MAX_SLICES];
};

struct process {
    int gpu, slice;
    unsigned pid;
    uint64_t bytes;
    bool compute, graphics;
};

enum injection_kind { INJECT_ERROR, INJECT_DELAY, INJECT_CRASH, INJECT_GARBAGE };

/* Applies to calls of `function` ("*" for all), on one GPU or, with -1, on every one and none. */
struct injection {
    enum injection_kind kind;
    char function[TEXT];
    int gpu;
    long value;
};

struct machine {
    char driver[TEXT];
    long generation;
    int gpu_count, process_count, injection_count;
    struct gpu gpus[MAX_GPUS];
    struct process processes[MAX_PROCESSES];
    struct injection injections[MAX_INJECTIONS];
};

/* machine.c: the machine as $FAKE_NVML_DIR describes it; false when there is none. */
bool refresh_machine(struct machine *machine);
const char *state_directory(void);

/* claims.c: the static processes and those living ones that claimed memory for themselves. */
int list_processes(const struct machine *machine, struct process *out, int capacity);

/* calls.c: `enter` returns with the lock held and the machine fresh iff it returns success. */
extern struct machine machine;
nvmlReturn_t enter(const char *function, int gpu);
nvmlReturn_t leave(nvmlReturn_t status);
nvmlReturn_t leave_with_text(char *out, unsigned length, const char *text);
nvmlDevice_t handle_of(int gpu, int slice);
void initialised(int by);
/* Between `enter` and `leave`: overwrites an answer where garbage was injected into this call. */
void garble(void *out, unsigned long size);
