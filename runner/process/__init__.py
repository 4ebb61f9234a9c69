"""One attempt of a job: started once, known for certain, ended whole, and outliving the daemon.

Why a recycled shim per slot
----------------------------
Something that survives the daemon must be the command's parent, or its exit status is lost. We
measured, on two cores with Linux 6.18, per ``bash -c true`` (plain ``posix_spawn``: 1.15 ms):

====================================================  =======
bash shim per attempt, writes a claim and an exit file  2.7 ms
dash shim per attempt, the same                         1.9 ms
Python shim per attempt, forked from a warm template    2.8 ms
one Python keeper that spawns all attempts             1.25 ms
====================================================  =======

A keeper is the cheapest, but all jobs share its fate, and it cannot tell whose orphan a
daemonised grandchild is. A shim per attempt knows its tree exactly (it is a "child subreaper":
orphans of its tree come to it, and to nobody else) and dies alone. Neither shell can say whether
``$?`` 137 was ``exit 137`` or SIGKILL; ``waitpid`` can. So: one shim per *slot*. It runs one
attempt at a time, is used again for the next, and so costs what the keeper costs, with the
shim's exactness. An idle one ends with the daemon; a busy one ends its attempt first.

The record is a file of fixed slots (``shim_records``), not a file per attempt: a claim is one
``pwrite`` under a byte-range lock (on some file systems a new inode costs half a millisecond), and
its blocks are there before the command runs, so that a full disk can't swallow an exit status.
"""
