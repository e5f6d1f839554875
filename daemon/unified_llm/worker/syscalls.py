"""The system calls a worker may make, and their numbers. Whatever is not here is refused.

An allow-list, since a model file that takes the worker over would look for the call nobody thought
of. It is generous with what only touches the process itself, so that another C library, Python or
ggml finds what it needs. Conditions on arguments are in `seccomp`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

_X32_BIT: Final = 0x4000_0000

# Name, number on x86_64, number on aarch64; a dash where there is no such call. From the kernel's
# syscall_64.tbl and asm-generic/unistd.h; such numbers never change.
_TABLE: Final = """
# Descriptors: what is behind them was opened under Landlock, or handed over.
read 0 63
readv 19 65
pread64 17 67
preadv 295 69
preadv2 327 286
write 1 64
writev 20 66
pwrite64 18 68
pwritev 296 70
pwritev2 328 287
lseek 8 62
close 3 57
close_range 436 436
dup 32 23
dup2 33 -
dup3 292 24
fcntl 72 25
ioctl 16 29
pipe 22 -
pipe2 293 59
eventfd2 290 19
memfd_create 319 279
ftruncate 77 46
fallocate 285 47
fadvise64 221 223
readahead 187 213
poll 7 -
ppoll 271 73
select 23 -
pselect6 270 72
epoll_create1 291 20
epoll_ctl 233 21
epoll_wait 232 -
epoll_pwait 281 22
epoll_pwait2 441 441
# Files: Landlock says which. Nothing here changes one.
open 2 -
openat 257 56
openat2 437 437
access 21 -
faccessat 269 48
faccessat2 439 439
stat 4 -
fstat 5 80
lstat 6 -
newfstatat 262 79
statx 332 291
statfs 137 43
fstatfs 138 44
readlink 89 -
readlinkat 267 78
getdents64 217 61
getcwd 79 17
# The sockets there are: no call that makes or names another.
sendto 44 206
recvfrom 45 207
sendmsg 46 211
recvmsg 47 212
shutdown 48 210
getsockname 51 204
getpeername 52 205
getsockopt 55 209
# Memory.
brk 12 214
mmap 9 222
munmap 11 215
mprotect 10 226
mremap 25 216
madvise 28 233
mincore 27 232
msync 26 227
mseal 462 462
membarrier 324 283
get_mempolicy 239 236
mbind 237 235
# Threads, and the end.
clone 56 220
exit 60 93
exit_group 231 94
futex 202 98
futex_waitv 449 449
futex_wake 454 454
futex_wait 455 455
futex_requeue 456 456
set_robust_list 273 99
get_robust_list 274 100
rseq 334 293
set_tid_address 218 96
restart_syscall 219 128
sched_yield 24 124
sched_getaffinity 204 123
sched_getparam 143 121
sched_getscheduler 145 120
getcpu 309 168
# Signals, to itself.
rt_sigaction 13 134
rt_sigprocmask 14 135
rt_sigreturn 15 139
rt_sigpending 127 136
rt_sigsuspend 130 133
rt_sigtimedwait 128 137
sigaltstack 131 132
pause 34 -
kill 62 129
tgkill 234 131
# Who and what it is.
getpid 39 172
gettid 186 178
getppid 110 173
getuid 102 174
geteuid 107 175
getgid 104 176
getegid 108 177
getgroups 115 158
getresuid 118 148
getresgid 120 150
getrlimit 97 163
prlimit64 302 261
prctl 157 167
getrusage 98 165
times 100 153
sysinfo 99 179
uname 63 160
# Time and chance.
clock_gettime 228 113
clock_getres 229 114
clock_nanosleep 230 115
nanosleep 35 101
gettimeofday 96 169
time 201 -
getrandom 318 278
"""

LAST_KNOWN: Final = 469  # file_setattr, Linux 6.17; the same on every architecture since number 424


@dataclass(frozen=True, slots=True)
class Architecture:
    """A kernel interface that workers can be filtered on.

    audit: its AUDIT_ARCH_* of linux/audit.h. foreign_from: as in bpf.Filter.
    seccomp, clone3: calls that are needed by number and that no worker may make.
    """

    audit: int
    allowed: Mapping[str, int]
    seccomp: int
    clone3: int = 435
    foreign_from: int | None = None


def _column(index: int) -> Mapping[str, int]:
    rows = (line.split() for line in _TABLE.splitlines() if line and not line.startswith("#"))
    return MappingProxyType({row[0]: int(row[index]) for row in rows if row[index] != "-"})


ARCHITECTURES: Final[Mapping[str, Architecture]] = MappingProxyType(
    {
        "x86_64": Architecture(0xC000_003E, _column(1), seccomp=317, foreign_from=_X32_BIT),
        "aarch64": Architecture(0xC000_00B7, _column(2), seccomp=277),
    }
)
"""By what uname(2) calls the machine."""
