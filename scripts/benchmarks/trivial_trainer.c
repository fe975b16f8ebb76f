/* The trainer of the benchmarks: stamps its start, passes a gate, sleeps, stamps its end.

   usage: trivial_trainer STAMPS GATE MICROSECONDS [what the daemon appends]

   GATE is a FIFO nobody writes to yet, so that opening it blocks without polling; once it is
   gone there is nothing to wait for. */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { LONGEST_SECONDS = 900 }; /* nobody opens the gate of a benchmark that was killed */

static struct timespec now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time;
}

static void stamp(int file, char what, struct timespec time)
{
    char line[64];
    long long nanoseconds = time.tv_sec * 1000000000LL + time.tv_nsec;
    int size = snprintf(line, sizeof line, "%c %020lld\n", what, nanoseconds);
    if (write(file, line, size) != size)
        _exit(1);
}

int main(int count, char **arguments)
{
    struct timespec started = now();
    if (count < 4)
        return 2;
    int file = open(arguments[1], O_WRONLY | O_APPEND | O_CREAT, 0600);
    stamp(file, 'S', started);
    alarm(LONGEST_SECONDS);
    int gate = open(arguments[2], O_RDONLY);
    if (gate >= 0)
        close(gate);
    if (atoi(arguments[3]) > 0)
        usleep(atoi(arguments[3]));
    stamp(file, 'E', now());
    _exit(0);
}
