"""Signals to processes that a test has started."""

import os
import signal
import subprocess


def pause(process: "subprocess.Popen[bytes]") -> None:
    """SIGSTOP; it runs no more when this returns. SIGCONT has it go on."""
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)
