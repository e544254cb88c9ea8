/* Preloaded by a test: the kernel has no random bytes for the program while the named file exists. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

ssize_t getrandom(void *bytes, size_t count, unsigned int flags)
{
    const char *path = getenv("TIDEMILL_TEST_NO_ENTROPY");
    /* The standard library's hash maps ask with flags and would abort; secrets are asked for without. */
    if (flags == 0 && count > 0 && path != NULL && access(path, F_OK) == 0) {
        errno = EIO;
        return -1;
    }
    return syscall(SYS_getrandom, bytes, count, flags);
}
