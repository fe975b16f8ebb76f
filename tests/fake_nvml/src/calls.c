/* What every call does first: lock, look at the machine, suffer the injected failures. */
#include "fake.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct machine machine;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int users;             /* nvmlInit minus nvmlShutdown */
static long users_generation; /* the driver load they belong to */
static const char *entered;    /* the function that holds the lock, */
static int entered_for;        /* and the GPU it is about */
static bool given_up[MAX_GPUS]; /* lost ones: they stay lost until NVML is initialised anew */

void initialised(int by)
{
    if (users_generation != machine.generation) {
        users = 0;
        memset(given_up, 0, sizeof given_up);
    }
    users_generation = machine.generation;
    users += by;
    if (!users)
        memset(given_up, 0, sizeof given_up);
}

static const struct injection *injected(const char *function, int gpu, enum injection_kind kind)
{
    for (int i = 0; i < machine.injection_count; i++) {
        const struct injection *it = &machine.injections[i];
        bool matches = !strcmp(it->function, function) || !strcmp(it->function, "*");
        if (it->kind == kind && matches && (it->gpu < 0 || it->gpu == gpu))
            return it;
    }
    return NULL;
}

static nvmlReturn_t judge(const char *function, int gpu)
{
    const struct injection *error = injected(function, gpu, INJECT_ERROR);
    bool starting = !strcmp(function, "nvmlInitWithFlags");
    if (injected(function, gpu, INJECT_CRASH))
        raise(SIGSEGV);
    if (error)
        return (nvmlReturn_t)error->value;
    if (!starting && (!users || users_generation != machine.generation))
        return NVML_ERROR_UNINITIALIZED;
    if (gpu >= 0 && (gpu >= machine.gpu_count || !machine.gpus[gpu].present))
        return NVML_ERROR_INVALID_ARGUMENT;
    if (gpu >= 0)
        given_up[gpu] |= machine.gpus[gpu].lost;
    return gpu >= 0 && given_up[gpu] ? NVML_ERROR_GPU_IS_LOST : NVML_SUCCESS;
}

/* Other threads may call while this one is held up, as with a driver stuck on one GPU. */
static void wait_unlocked(long milliseconds)
{
    struct timespec left = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    pthread_mutex_unlock(&lock);
    while (nanosleep(&left, &left))
        ;
    pthread_mutex_lock(&lock);
}

nvmlReturn_t enter(const char *function, int gpu)
{
    pthread_mutex_lock(&lock);
    if (!refresh_machine(&machine))
        return leave(NVML_ERROR_DRIVER_NOT_LOADED);
    const struct injection *delay = injected(function, gpu, INJECT_DELAY);
    if (delay) {
        wait_unlocked(delay->value);
        if (!refresh_machine(&machine))
            return leave(NVML_ERROR_DRIVER_NOT_LOADED);
    }
    nvmlReturn_t status = judge(function, gpu);
    entered = function;
    entered_for = gpu;
    return status == NVML_SUCCESS ? status : leave(status);
}

nvmlReturn_t leave(nvmlReturn_t status)
{
    pthread_mutex_unlock(&lock);
    return status;
}

nvmlReturn_t leave_with_text(char *out, unsigned length, const char *text)
{
    bool fits = snprintf(out, length, "%s", text) < (int)length;
    garble(out, length - 1);
    return leave(fits ? NVML_SUCCESS : NVML_ERROR_INSUFFICIENT_SIZE);
}

void garble(void *out, unsigned long size)
{
    const struct injection *garbage = injected(entered, entered_for, INJECT_GARBAGE);
    if (garbage)
        memset(out, (int)garbage->value, size);
}

/* A handle is an address in this table and stays valid as long as the library is loaded. */
nvmlDevice_t handle_of(int gpu, int slice)
{
    static struct handle handles[MAX_GPUS][MAX_SLICES + 1];
    struct handle *handle = &handles[gpu][slice + 1];
    *handle = (struct handle){gpu, slice};
    return handle;
}
