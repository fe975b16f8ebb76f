/* NVML calls about the system: start, stop, versions, finding devices. */
#include "fake.h"

#include <string.h>

PUBLIC nvmlReturn_t nvmlInitWithFlags(unsigned flags)
{
    (void)flags;
    nvmlReturn_t status = enter(__func__, -1);
    if (status)
        return status;
    initialised(+1);
    return leave(NVML_SUCCESS);
}

PUBLIC nvmlReturn_t nvmlInit_v2(void)
{
    return nvmlInitWithFlags(0);
}

PUBLIC nvmlReturn_t nvmlShutdown(void)
{
    nvmlReturn_t status = enter(__func__, -1);
    if (status)
        return status;
    initialised(-1);
    return leave(NVML_SUCCESS);
}

PUBLIC const char *nvmlErrorString(nvmlReturn_t code)
{
    return code == NVML_SUCCESS ? "Success" : "An error of the fake driver";
}

PUBLIC nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned length)
{
    nvmlReturn_t status = enter(__func__, -1);
    return status ? status : leave_with_text(version, length, machine.driver);
}

PUBLIC nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count)
{
    nvmlReturn_t status = enter(__func__, -1);
    if (status)
        return status;
    *count = (unsigned)machine.gpu_count;
    garble(count, sizeof *count);
    return leave(NVML_SUCCESS);
}

PUBLIC nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device)
{
    nvmlReturn_t status = enter(__func__, index < MAX_GPUS ? (int)index : MAX_GPUS);
    if (status)
        return status;
    *device = handle_of((int)index, -1);
    return leave(NVML_SUCCESS);
}

PUBLIC nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
    nvmlReturn_t status = enter(__func__, -1);
    if (status)
        return status;
    for (int gpu = 0; gpu < machine.gpu_count; gpu++)
        if (machine.gpus[gpu].present && !strcmp(uuid, machine.gpus[gpu].uuid)) {
            *device = handle_of(gpu, -1);
            return leave(machine.gpus[gpu].lost ? NVML_ERROR_GPU_IS_LOST : NVML_SUCCESS);
        }
    return leave(NVML_ERROR_NOT_FOUND);
}
