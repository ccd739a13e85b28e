/* Metrics from /proc and statvfs. See metrics.h. */
#include "metrics.h"

#include "base/path.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

static char *read_proc(const char *path)
{
    size_t n;
    return path_read_file(AT_FDCWD, path, 1u << 20, &n, NULL);
}

/* Percent over all processors since the last call. */
static double processor(struct metrics *m)
{
    uint64_t v[8] = {0}, total = 0;
    char *s = read_proc("/proc/stat");
    if (s)
        sscanf(s,
               "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
               " %" SCNu64 " %" SCNu64 " %" SCNu64,
               &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]);
    free(s);
    for (int i = 0; i < 8; i++)
        total += v[i];
    uint64_t busy = total - v[3] - v[4]; /* not idle, not waiting for disk */
    double pct = 0;
    if (total > m->total && busy >= m->busy)
        pct = 100.0 * (double)(busy - m->busy) / (double)(total - m->total);
    m->busy = busy;
    m->total = total;
    return pct;
}

static uint64_t field(const char *s, const char *name)
{
    const char *at = s ? strstr(s, name) : NULL;
    return at ? strtoull(at + strlen(name), NULL, 10) * 1024 : 0;
}

void metrics_write(struct metrics *m, struct buf *b)
{
    struct statvfs fs;
    char *s = read_proc("/proc/meminfo");
    uint64_t total = field(s, "MemTotal:"), avail = field(s, "MemAvailable:");
    uint64_t cache = field(s, "\nCached:"), disk = 0, used = 0;
    uint64_t taken = total > avail ? total - avail : 0;
    free(s);
    if (statvfs("/", &fs) == 0) {
        disk = (uint64_t)fs.f_blocks * fs.f_frsize;
        used = disk - (uint64_t)fs.f_bavail * fs.f_frsize;
    }
    buf_printf(b,
               "{\"ts\":%lld,\"cpu_count\":%ld,\"cpu_used_pct\":%.2f,"
               "\"mem_total_mib\":%" PRIu64 ",\"mem_used_mib\":%" PRIu64
               ",\"mem_total\":%" PRIu64 ",\"mem_used\":%" PRIu64
               ",\"mem_cache\":%" PRIu64 ",\"disk_used\":%" PRIu64
               ",\"disk_total\":%" PRIu64 "}",
               (long long)time(NULL), sysconf(_SC_NPROCESSORS_ONLN),
               processor(m), total >> 20, taken >> 20, total, taken, cache,
               used, disk);
}
