/* Who uses the GPUs: processes of the state file, and files `claims/DEVICE.PID` ("BYTES START").
 *
 * DEVICE is an index or a UUID. A claim counts while the process with that pid and start time lives,
 * zombies excluded: as with a real driver, killing it frees its memory. */
#include "fake.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Field 22 of /proc/PID/stat (proc_pid_stat(5)); 0 when there is no such process or it is dead. */
static unsigned long long start_of(unsigned pid)
{
    char path[64], text[1024], state = 0;
    unsigned long long start = 0;
    snprintf(path, sizeof path, "/proc/%u/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    const char *rest = strrchr(text, ')');
    if (!rest
        || sscanf(rest + 1,
                  " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu",
                  &state, &start) != 2)
        return 0;
    return state == 'Z' || state == 'X' ? 0 : start;
}

static bool find_device(const struct machine *m, const char *device, struct process *out)
{
    out->slice = -1;
    if (isdigit((unsigned char)*device)) {
        out->gpu = atoi(device);
        return out->gpu < m->gpu_count;
    }
    for (out->gpu = 0; out->gpu < m->gpu_count; out->gpu++) {
        const struct gpu *gpu = &m->gpus[out->gpu];
        if (!strcmp(device, gpu->uuid))
            return true;
        for (int slot = 0; slot < MAX_SLICES; slot++)
            if (gpu->slices[slot].present && !strcmp(device, gpu->slices[slot].uuid)) {
                out->slice = slot;
                return true;
            }
    }
    return false;
}

static bool read_claim(const struct machine *m, const char *name, struct process *out)
{
    char path[4096], device[256];
    unsigned long long bytes = 0, start = 0;
    *out = (struct process){.compute = true};
    if (sscanf(name, "%255[^.].%u", device, &out->pid) != 2 || !find_device(m, device, out))
        return false;
    snprintf(path, sizeof path, "%s/claims/%s", state_directory(), name);
    FILE *file = fopen(path, "r");
    if (!file)
        return false;
    int read = fscanf(file, "%llu %llu", &bytes, &start);
    fclose(file);
    out->bytes = bytes;
    return read == 2 && start && start == start_of(out->pid);
}

int list_processes(const struct machine *m, struct process *out, int capacity)
{
    char path[4096];
    int count = m->process_count < capacity ? m->process_count : capacity;
    memcpy(out, m->processes, (size_t)count * sizeof *out);
    snprintf(path, sizeof path, "%s/claims", state_directory());
    DIR *directory = opendir(path);
    if (!directory)
        return count;
    for (struct dirent *entry; count < capacity && (entry = readdir(directory));)
        if (read_claim(m, entry->d_name, &out[count]))
            count++;
    closedir(directory);
    return count;
}
