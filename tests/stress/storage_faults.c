/* Storage that fails, for processes that load this library (LD_PRELOAD).
 *
 * Calls on files below $FAULTS_BELOW fail at random, so many of a million as the first word of the
 * file $FAULTS_CONTROL says; the second counts the failures. It is mapped, so a change holds at
 * once. The draws follow from $FAULTS_SEED and the process id.
 *
 * What can't be caught: SQLite's shared memory (a mapped file), and what the kernel does by itself.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <unistd.h>

static volatile uint32_t *control;
static char below[4096];
static size_t below_length;
static __thread uint64_t state;

__attribute__((constructor)) static void begin(void)
{
    const char *where = getenv("FAULTS_CONTROL"), *root = getenv("FAULTS_BELOW");
    if (!where || !root || strlen(root) >= sizeof below)
        return;
    int fd = open(where, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    void *mapped = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    strcpy(below, root);
    below_length = strlen(root);
    if (mapped != MAP_FAILED)
        control = mapped;
}

static uint64_t draw(void)
{
    if (!state) {
        const char *seed = getenv("FAULTS_SEED");
        state = (seed ? strtoull(seed, NULL, 10) : 1) * 0x9E3779B97F4A7C15ULL
                ^ ((uint64_t)getpid() << 20) ^ (uint64_t)(uintptr_t)&state;
        state |= 1;
    }
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static int ours(const char *path)
{
    return !strncmp(path, below, below_length);
}

static int chosen(void)
{
    if (draw() % 1000000 >= control[0])
        return 0;
    __sync_fetch_and_add(&control[1], 1);
    return 1;
}

static int fails_at(const char *path)
{
    return control && control[0] && path && ours(path) && chosen();
}

static int fails_on(int fd)
{
    char link[40], path[4096];
    if (!control || !control[0])
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0)
        return 0;
    path[length] = 0;
    return ours(path) && chosen();
}

static int eio(void)
{
    errno = EIO;
    return -1;
}

/* Where something is to be stored the disk may as well be full. */
static int no_room(void)
{
    errno = draw() & 1 ? EIO : ENOSPC;
    return -1;
}


#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) \
        real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define OPENS(name) \
    int name(const char *path, int flags, ...) \
    { \
        REAL(name); \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = va_arg(more, mode_t); \
        va_end(more); \
        if (fails_at(path)) \
            return flags & O_CREAT ? no_room() : eio(); \
        return real(path, flags, mode); \
    }
OPENS(open)
OPENS(open64)

#define READS(name, offset_type) \
    ssize_t name(int fd, void *into, size_t size, offset_type offset) \
    { \
        REAL(name); \
        return fails_on(fd) ? eio() : real(fd, into, size, offset); \
    }
READS(pread, off_t)
READS(pread64, off64_t)

ssize_t read(int fd, void *into, size_t size)
{
    REAL(read);
    return fails_on(fd) ? eio() : real(fd, into, size);
}

/* One in three failures is a short write. */
#define WRITES(name, offset_type) \
    ssize_t name(int fd, const void *from, size_t size, offset_type offset) \
    { \
        REAL(name); \
        if (!fails_on(fd)) \
            return real(fd, from, size, offset); \
        return size > 1 && draw() % 3 == 0 ? real(fd, from, size / 2, offset) : no_room(); \
    }
WRITES(pwrite, off_t)
WRITES(pwrite64, off64_t)

ssize_t write(int fd, const void *from, size_t size)
{
    REAL(write);
    if (!fails_on(fd))
        return real(fd, from, size);
    return size > 1 && draw() % 3 == 0 ? real(fd, from, size / 2) : no_room();
}

int fsync(int fd)
{
    REAL(fsync);
    return fails_on(fd) ? eio() : real(fd);
}

int fdatasync(int fd)
{
    REAL(fdatasync);
    return fails_on(fd) ? eio() : real(fd);
}

int ftruncate(int fd, off_t size)
{
    REAL(ftruncate);
    return fails_on(fd) ? eio() : real(fd, size);
}

int ftruncate64(int fd, off64_t size)
{
    REAL(ftruncate64);
    return fails_on(fd) ? eio() : real(fd, size);
}

int posix_fallocate(int fd, off_t offset, off_t size)
{
    REAL(posix_fallocate);
    return fails_on(fd) ? ENOSPC : real(fd, offset, size);
}

int posix_fallocate64(int fd, off64_t offset, off64_t size)
{
    REAL(posix_fallocate64);
    return fails_on(fd) ? ENOSPC : real(fd, offset, size);
}

int rename(const char *from, const char *to)
{
    REAL(rename);
    return fails_at(to) ? no_room() : real(from, to);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    REAL(renameat);
    return fails_at(to) ? no_room() : real(from_fd, from, to_fd, to);
}

int link(const char *from, const char *to)
{
    REAL(link);
    return fails_at(to) ? no_room() : real(from, to);
}

int symlink(const char *from, const char *to)
{
    REAL(symlink);
    return fails_at(to) ? no_room() : real(from, to);
}

int mkdir(const char *path, mode_t mode)
{
    REAL(mkdir);
    return fails_at(path) ? no_room() : real(path, mode);
}

/* A disk that doesn't tell, or tells that it is full. */
#define TELLS(name, kind) \
    int name(const char *path, struct kind *into) \
    { \
        REAL(name); \
        int fails = fails_at(path); \
        if (fails && draw() & 1) \
            return eio(); \
        int code = real(path, into); \
        if (fails) \
            into->f_bavail = into->f_bfree = 0; \
        return code; \
    }
TELLS(statvfs, statvfs)
TELLS(statvfs64, statvfs64)
