/* Reads the state file: one fact a line, fields separated by tabs; it is replaced by rename. */
#include "fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_FIELDS = 12 };

const char *state_directory(void)
{
    return getenv("FAKE_NVML_DIR");
}

static void copy(char *out, const char *text)
{
    snprintf(out, TEXT, "%s", text);
}

static int split(char *line, char *fields[MAX_FIELDS])
{
    int count = 0;
    line[strcspn(line, "\n")] = 0;
    for (char *field; count < MAX_FIELDS && (field = strsep(&line, "\t"));)
        fields[count++] = field;
    return count;
}

static struct gpu *gpu_at(struct machine *m, const char *index)
{
    int i = atoi(index);
    return i >= 0 && i < MAX_GPUS ? &m->gpus[i] : NULL;
}

/* gpu INDEX UUID NAME TOTAL RESERVED HIDDEN UTILIZATION TEMPERATURE MILLIWATTS MIG LOST */
static void read_gpu(struct machine *m, char **f)
{
    struct gpu *gpu = gpu_at(m, f[1]);
    if (!gpu)
        return;
    gpu->present = true;
    copy(gpu->uuid, f[2]);
    copy(gpu->name, f[3]);
    gpu->total = strtoull(f[4], NULL, 10);
    gpu->reserved = strtoull(f[5], NULL, 10);
    gpu->hidden = strtoull(f[6], NULL, 10);
    gpu->utilization = atol(f[7]);
    gpu->temperature = atol(f[8]);
    gpu->milliwatts = atol(f[9]);
    gpu->mig = atoi(f[10]);
    gpu->lost = atoi(f[11]);
    if (atoi(f[1]) >= m->gpu_count)
        m->gpu_count = atoi(f[1]) + 1;
}

/* slice GPU SLOT UUID GPU_INSTANCE TOTAL */
static void read_slice(struct machine *m, char **f)
{
    struct gpu *gpu = gpu_at(m, f[1]);
    int slot = atoi(f[2]);
    if (!gpu || slot < 0 || slot >= MAX_SLICES)
        return;
    struct slice *slice = &gpu->slices[slot];
    slice->present = true;
    copy(slice->uuid, f[3]);
    slice->gpu_instance = (unsigned)atoi(f[4]);
    slice->total = strtoull(f[5], NULL, 10);
}

/* process GPU SLOT PID BYTES KINDS, where KINDS holds `c`, `g` or both, and SLOT -1 is no slice */
static void read_process(struct machine *m, char **f)
{
    if (m->process_count == MAX_PROCESSES)
        return;
    m->processes[m->process_count++] = (struct process){
        .gpu = atoi(f[1]),
        .slice = atoi(f[2]),
        .pid = (unsigned)strtoul(f[3], NULL, 10),
        .bytes = strtoull(f[4], NULL, 10),
        .compute = strchr(f[5], 'c') != NULL,
        .graphics = strchr(f[5], 'g') != NULL,
    };
}

/* error|delay|crash|garbage FUNCTION GPU VALUE */
static void read_injection(struct machine *m, char **f, enum injection_kind kind)
{
    if (m->injection_count == MAX_INJECTIONS)
        return;
    struct injection *injection = &m->injections[m->injection_count++];
    injection->kind = kind;
    copy(injection->function, f[1]);
    injection->gpu = atoi(f[2]);
    injection->value = atol(f[3]);
}

static void read_fact(struct machine *m, char **f, int count)
{
    if (count == 3 && !strcmp(f[0], "driver")) {
        copy(m->driver, f[1]);
        m->generation = atol(f[2]);
    } else if (count == 12 && !strcmp(f[0], "gpu"))
        read_gpu(m, f);
    else if (count == 6 && !strcmp(f[0], "slice"))
        read_slice(m, f);
    else if (count == 6 && !strcmp(f[0], "process"))
        read_process(m, f);
    else if (count == 4 && !strcmp(f[0], "error"))
        read_injection(m, f, INJECT_ERROR);
    else if (count == 4 && !strcmp(f[0], "delay"))
        read_injection(m, f, INJECT_DELAY);
    else if (count == 4 && !strcmp(f[0], "crash"))
        read_injection(m, f, INJECT_CRASH);
    else if (count == 4 && !strcmp(f[0], "garbage"))
        read_injection(m, f, INJECT_GARBAGE);
    else
        fprintf(stderr, "fake NVML: cannot read the fact '%s' with %d fields\n", f[0], count);
}

static bool is_same_file(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_size == b->st_size
           && a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static bool read_machine(struct machine *m, const char *path)
{
    char *line = NULL, *fields[MAX_FIELDS];
    size_t capacity = 0;
    FILE *file = fopen(path, "r");
    if (!file)
        return false;
    memset(m, 0, sizeof *m);
    while (getline(&line, &capacity, file) > 0)
        read_fact(m, fields, split(line, fields));
    free(line);
    fclose(file);
    return true;
}

bool refresh_machine(struct machine *m)
{
    static struct stat seen;
    static char seen_path[4096];
    char path[4096];
    struct stat now;
    if (!state_directory())
        return false;
    snprintf(path, sizeof path, "%s/state", state_directory());
    if (stat(path, &now))
        return false;
    if (is_same_file(&seen, &now) && !strcmp(path, seen_path))
        return true;
    seen = now;
    strcpy(seen_path, path);
    return read_machine(m, path);
}
