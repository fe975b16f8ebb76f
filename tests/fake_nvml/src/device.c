/* NVML calls about one GPU or MIG slice: who it is, how it is, what its memory holds. */
#include "fake.h"

#include <stddef.h>
#include <stdio.h>

struct memory_v1 {
    uint64_t total, free, used;
};

struct memory_v2 {
    unsigned version;
    uint64_t total, reserved, free, used;
};

struct utilization {
    unsigned gpu, memory;
};

struct temperature_v1 {
    unsigned version, sensor;
    int celsius;
};

#define VERSION(type, number) ((unsigned)sizeof(type) | (number) << 24)

static const struct gpu *gpu_of(nvmlDevice_t device)
{
    return &machine.gpus[device->gpu];
}

static const struct slice *slice_of(nvmlDevice_t device)
{
    return device->slice < 0 ? NULL : &gpu_of(device)->slices[device->slice];
}

static struct memory_v2 memory_of(nvmlDevice_t device)
{
    static struct process processes[MAX_PROCESSES];
    const struct slice *slice = slice_of(device);
    int count = list_processes(&machine, processes, MAX_PROCESSES);
    struct memory_v2 memory = {
        .total = slice ? slice->total : gpu_of(device)->total,
        .reserved = slice ? 0 : gpu_of(device)->reserved,
        .used = slice ? 0 : gpu_of(device)->hidden,
    };
    for (int i = 0; i < count; i++)
        if (processes[i].gpu == device->gpu && processes[i].bytes != BYTES_UNKNOWN
            && (!slice || processes[i].slice == device->slice))
            memory.used += processes[i].bytes;
    if (memory.used > memory.total - memory.reserved)
        memory.used = memory.total - memory.reserved;
    memory.free = memory.total - memory.reserved - memory.used;
    return memory;
}

/* Where a whole GPU has this figure and it is supported. */
static nvmlReturn_t leave_with_figure(nvmlDevice_t device, long figure, unsigned *out)
{
    if (device->slice >= 0 || figure < 0)
        return leave(NVML_ERROR_NOT_SUPPORTED);
    *out = (unsigned)figure;
    garble(out, sizeof *out);
    return leave(NVML_SUCCESS);
}

PUBLIC nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned *index)
{
    nvmlReturn_t status = enter(__func__, device->gpu);
    return status ? status : leave_with_figure(device, device->gpu, index);
}

PUBLIC nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned length)
{
    nvmlReturn_t status = enter(__func__, device->gpu);
    if (status)
        return status;
    const struct slice *slice = slice_of(device);
    return leave_with_text(uuid, length, slice ? slice->uuid : gpu_of(device)->uuid);
}

PUBLIC nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned length)
{
    char text[2 * TEXT];
    nvmlReturn_t status = enter(__func__, device->gpu);
    if (status)
        return status;
    const struct slice *slice = slice_of(device);
    snprintf(text, sizeof text, slice ? "%s MIG %dgb" : "%s", gpu_of(device)->name,
             slice ? (int)(slice->total >> 30) : 0);
    return leave_with_text(name, length, text);
}

PUBLIC nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, struct memory_v1 *out)
{
    nvmlReturn_t status = enter(__func__, device->gpu);
    if (status)
        return status;
    struct memory_v2 memory = memory_of(device);
    *out = (struct memory_v1){memory.total, memory.free, memory.used + memory.reserved};
    garble(out, sizeof *out);
    return leave(NVML_SUCCESS);
}

PUBLIC nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, struct memory_v2 *out)
{
    nvmlReturn_t status = enter(__func__, device->gpu);
    if (status)
        return status;
    if (out->version != VERSION(struct memory_v2, 2u))
        return leave(NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    unsigned version = out->version;
    *out = memory_of(device);
    out->version = version;
    garble(&out->total, sizeof *out - offsetof(struct memory_v2, total));
    return leave(NVML_SUCCESS);
}

PUBLIC nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, struct utilization *out)
{
    nvmlReturn_t status = enter(__func__, device->gpu);
    if (status)
        return status;
    out->memory = 0;
    return leave_with_figure(device, gpu_of(device)->mig ? -1 : gpu_of(device)->utilization,
                             &out->gpu);
}

PUBLIC nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, unsigned sensor, unsigned *celsius)
{
    (void)sensor;
    nvmlReturn_t status = enter(__func__, device->gpu);
    return status ? status : leave_with_figure(device, gpu_of(device)->temperature, celsius);
}

PUBLIC nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, struct temperature_v1 *out)
{
    nvmlReturn_t status = enter(__func__, device->gpu);
    if (status)
        return status;
    if (out->version != VERSION(struct temperature_v1, 1u))
        return leave(NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    return leave_with_figure(device, gpu_of(device)->temperature, (unsigned *)&out->celsius);
}

PUBLIC nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned *milliwatts)
{
    nvmlReturn_t status = enter(__func__, device->gpu);
    return status ? status : leave_with_figure(device, gpu_of(device)->milliwatts, milliwatts);
}
