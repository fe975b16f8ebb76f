/* NVML calls about MIG: whether a GPU is cut into slices, and which. */
#include "fake.h"

PUBLIC nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned *current, unsigned *pending)
{
    nvmlReturn_t status = enter(__func__, device->gpu);
    if (status)
        return status;
    *current = *pending = machine.gpus[device->gpu].mig;
    garble(current, sizeof *current);
    return leave(NVML_SUCCESS);
}

PUBLIC nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned *count)
{
    nvmlReturn_t status = enter(__func__, device->gpu);
    if (status)
        return status;
    *count = machine.gpus[device->gpu].mig ? MAX_SLICES : 0;
    garble(count, sizeof *count);
    return leave(NVML_SUCCESS);
}

PUBLIC nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned slot,
                                                        nvmlDevice_t *slice)
{
    nvmlReturn_t status = enter(__func__, device->gpu);
    if (status)
        return status;
    if (slot >= MAX_SLICES)
        return leave(NVML_ERROR_INVALID_ARGUMENT);
    if (!machine.gpus[device->gpu].slices[slot].present)
        return leave(NVML_ERROR_NOT_FOUND);
    *slice = handle_of(device->gpu, (int)slot);
    return leave(NVML_SUCCESS);
}

PUBLIC nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t device, unsigned *id)
{
    nvmlReturn_t status = enter(__func__, device->gpu);
    if (status)
        return status;
    if (device->slice < 0)
        return leave(NVML_ERROR_NOT_SUPPORTED);
    *id = machine.gpus[device->gpu].slices[device->slice].gpu_instance;
    garble(id, sizeof *id);
    return leave(NVML_SUCCESS);
}
