/* NVML calls that list the processes on a GPU or MIG slice. */
#include "fake.h"

struct process_info {
    unsigned pid;
    uint64_t bytes;
    unsigned gpu_instance, compute_instance;
};

static bool belongs(const struct process *process, nvmlDevice_t device, bool graphics)
{
    return process->gpu == device->gpu && (graphics ? process->graphics : process->compute)
           && (device->slice < 0 || process->slice == device->slice);
}

static struct process_info info_of(const struct process *process)
{
    const struct slice *slices = machine.gpus[process->gpu].slices;
    bool sliced = process->slice >= 0 && process->slice < MAX_SLICES;
    return (struct process_info){
        .pid = process->pid,
        .bytes = process->bytes,
        .gpu_instance = sliced ? slices[process->slice].gpu_instance : NO_INSTANCE,
        .compute_instance = sliced ? 0 : NO_INSTANCE,
    };
}

/* NVML's protocol: too small a `*count` is answered by the size that would do. */
static nvmlReturn_t list(const char *function, nvmlDevice_t device, unsigned *count,
                         struct process_info *out, bool graphics)
{
    static struct process processes[MAX_PROCESSES];
    nvmlReturn_t status = enter(function, device->gpu);
    if (status)
        return status;
    unsigned found = 0, room = out ? *count : 0;
    int listed = list_processes(&machine, processes, MAX_PROCESSES);
    for (int i = 0; i < listed; i++) {
        if (!belongs(&processes[i], device, graphics))
            continue;
        if (found < room)
            out[found] = info_of(&processes[i]);
        found++;
    }
    for (unsigned i = 0; i < found && i < room; i++)
        garble(&out[i], sizeof out[i]);
    *count = found;
    return leave(found > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS);
}

#define LISTS_PROCESSES(name, graphics)                                                            \
    PUBLIC nvmlReturn_t name(nvmlDevice_t device, unsigned *count, struct process_info *out)       \
    {                                                                                              \
        return list(__func__, device, count, out, graphics);                                       \
    }

LISTS_PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3, false)
LISTS_PROCESSES(nvmlDeviceGetComputeRunningProcesses_v2, false)
LISTS_PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3, true)
LISTS_PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v2, true)
