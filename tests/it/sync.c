/* A disk that does not sync, or slowly: preloaded, fsync and fdatasync fail as long as a file is there, and the
 * pages that they did not write pass for written, as on Linux. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fails(void) {
    const char *path = getenv("TEST_NO_SYNC");
    return path && access(path, F_OK) == 0;
}

static int synced(long call, int file) {
    const char *slow = getenv("TEST_SLOW_SYNC");
    if (slow) usleep(1000 * (unsigned)atoi(slow));
    if (fails()) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(call, file);
}

int fsync(int file) { return synced(SYS_fsync, file); }

int fdatasync(int file) { return synced(SYS_fdatasync, file); }
