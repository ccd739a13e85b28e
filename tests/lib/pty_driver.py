"""Runs a program on a pseudo terminal: pty_driver.py STEPS PROGRAM ARGS...

STEPS is a JSON array of ["wait", text], ["send", text], ["size", rows, cols],
["signal", name] and ["pause", seconds]. Prints JSON: what the terminal showed,
the exit code (negative: a signal), and whether the terminal is as it was."""
import fcntl
import json
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

LIMIT = 30
steps, argv = json.loads(sys.argv[1]), sys.argv[2:]
master, slave = pty.openpty()


def set_size(rows, cols):
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))


set_size(24, 80)
before = termios.tcgetattr(slave)
pid = os.fork()
if pid == 0:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in (0, 1, 2):
        os.dup2(slave, fd)
    os.closerange(3, 256)
    os.execv(argv[0], argv)

shown = b""
missed = None
raw_seen = False


def take(seconds):
    global shown
    ready, _, _ = select.select([master], [], [], seconds)
    if ready:
        shown += os.read(master, 65536)


def wait_for(text):
    # behind what an earlier wait has found
    global found, missed
    end = time.time() + LIMIT
    while text not in shown[found:]:
        if time.time() > end:
            missed = text.decode()
            return
        take(0.05)
    found += shown[found:].index(text) + len(text)


found = 0
for step in steps:
    if missed:
        break
    if step[0] == "wait":
        wait_for(step[1].encode())
        raw_seen = raw_seen or not termios.tcgetattr(slave)[3] & termios.ICANON
    elif step[0] == "send":
        os.write(master, step[1].encode())
    elif step[0] == "size":
        set_size(step[1], step[2])
        os.killpg(os.tcgetpgrp(master), signal.SIGWINCH)
    elif step[0] == "signal":
        os.kill(pid, getattr(signal, step[1]))
    elif step[0] == "pause":
        time.sleep(step[1])

end = time.time() + LIMIT
code = None
while time.time() < end:
    done, status = os.waitpid(pid, os.WNOHANG)
    if done:
        code = os.waitstatus_to_exitcode(status)
        break
    take(0.05)
if code is None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
# the guard of a killed program takes a moment
end = time.time() + 2
while termios.tcgetattr(slave) != before and time.time() < end:
    time.sleep(0.02)
take(0.1)
print(json.dumps({"shown": shown.decode(errors="replace"), "code": code, "missed": missed,
                  "raw": raw_seen, "restored": termios.tcgetattr(slave) == before}))
