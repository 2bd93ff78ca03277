"""The Debian packages: built in one clean root, installed into another, asked, and purged; and make install into /usr.

For make check-long: takes many minutes. Needs root, debootstrap and a mirror.
"""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
import sys
import unittest
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "gdb"))
from support import BUILD, SOURCE, work_directory  # noqa: E402

ROOT = work_directory() / "root"
BUILD_ROOT = work_directory() / "build-root"
OURS = ("tracemalloc", "libtracemalloc-dev", "libtracemalloc0")
# What apt and dpkg keep for themselves, and what is no file of a package.
NOT_COMPARED = ("dev", "proc", "run", "sys", "tmp", "var/cache", "var/lib/apt", "var/lib/dpkg", "var/log")
# Those of a make around us are not meant for ours.
INHERITED = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "DESTDIR", "TM_TOP_SRCDIR", "TM_TOP_BUILDDIR", "DEBUGINFOD_URLS")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in INHERITED}

# In a language that every Debian has: blocks to be asked for.
HOARD = """
my @hoard = map { "x" x $_ } 1..1000;
if (@ARGV) { $| = 1; print "ready\\n"; sleep 60 }
rmdir "/nowhere";
"""
BUILD_OPTIONS = os.environ.get("DEB_BUILD_OPTIONS", "parallel=2")
PRELOADED = "-ex 'set environment LD_PRELOAD libtracemalloc.so.0' -ex 'set environment TRACEMALLOC 25'"


def call(*command: str | Path, directory: Path | None = None) -> str:
    """What the command prints; with the end of all that it said if it fails."""
    done = subprocess.run([str(word) for word in command], cwd=directory or work_directory(), text=True,
                          env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          errors="replace", timeout=3000)
    if done.returncode != 0:
        failed = "\n".join(line for line in done.stdout.splitlines() if line.startswith(("not ok", "FAIL:", "ERROR:")))
        raise AssertionError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{failed}\n"
                             f"{done.stdout[-8000:]}")
    return done.stdout


def inside(script: str, user: str = "root", root: Path = ROOT) -> str:
    """What a shell in the root prints. Its processes and its /proc go with it."""
    return call("unshare", "--mount", "--pid", "--fork", f"--mount-proc={root}/proc", "chroot", f"--userspec={user}",
                root, "/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/tmp", "LC_ALL=C.UTF-8",
                "DEBIAN_FRONTEND=noninteractive", f"DEB_BUILD_OPTIONS={BUILD_OPTIONS}", "/bin/sh", "-euc",
                f"cd /tmp\n{script}")


def install(*packages: str) -> str:
    return inside(f"apt-get install -q -y --no-install-recommends {' '.join(packages)}")


def mirror() -> tuple[str, str]:
    """This machine's release, and where apt has it from."""
    release = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    targets = call("apt-get", "indextargets", "--format", "$(CODENAME) $(COMPONENT) $(REPO_URI)").splitlines()
    for codename, component, address in map(str.split, targets):
        if (codename, component) == (release, "main"):
            try:
                urllib.request.urlopen(f"{address.rstrip('/')}/dists/{release}/InRelease", timeout=30).close()
            except OSError as error:
                raise unittest.SkipTest(f"{address} is out of reach: {error}")
            return release, address
    raise unittest.SkipTest(f"apt knows no mirror of {release or 'this release'}")


def make_root(root: Path, variant: str) -> None:
    """A clean root with a user."""
    release, address = mirror()
    call("debootstrap", f"--variant={variant}", release, root, address)
    inside("useradd somebody", root=root)


@functools.lru_cache(maxsize=None)
def prepare_root() -> None:
    """A root with nothing more than what ours depend on."""
    make_root(ROOT, "minbase")
    install("gdb", "python3")
    (ROOT / "tmp/hoard.pl").write_text(HOARD)


@functools.lru_cache(maxsize=None)
def source() -> Path:
    """What ships."""
    directory = work_directory() / "source"
    call("make", "-s", "distdir", f"distdir={directory}", directory=BUILD)
    return directory


@functools.lru_cache(maxsize=None)
def packages() -> tuple[str, ...]:
    """The packages as the root sees them, built and tested by a user with the build dependencies and no more."""
    make_root(BUILD_ROOT, "buildd")
    building = BUILD_ROOT / "tmp/building"
    shutil.copytree(source(), building / "source")
    inside("apt-get build-dep -q -y --no-install-recommends ./building/source\nchown -R somebody building",
           root=BUILD_ROOT)
    inside("cd building/source\ndpkg-buildpackage -us -uc -b", "somebody", BUILD_ROOT)
    made = [path for path in building.glob("*.deb") if path.name.partition("_")[0] in OURS]
    for path in made:
        shutil.copy(path, ROOT / "tmp")
    return tuple(f"/tmp/{path.name}" for path in made)


def purge() -> None:
    inside(f"dpkg --purge {' '.join(OURS)}")


def tree() -> set[str]:
    """Everything in the root that is for packages to bring and to take."""
    found: set[str] = set()
    for directory, directories, files in os.walk(ROOT):
        here = Path(directory).relative_to(ROOT)
        directories[:] = [name for name in directories if str(here / name) not in NOT_COMPARED]
        found.update(str(here / name) for name in [*directories, *files])
    return found


class CleanRoot(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls) -> None:
        if os.geteuid() != 0:
            raise unittest.SkipTest("only root can make a root")
        for tool in ("debootstrap", "unshare", "chroot"):
            if shutil.which(tool) is None:
                raise unittest.SkipTest(f"there is no {tool} here")
        prepare_root()

    def assertAnswers(self, output: str) -> None:
        self.assertRegex(output, r"perl.*: \d+ [KM]iB in [\d,]+ blocks from \d+ lines")
        self.assertRegex(output, r"(?m)^ ?1  \S+: size=\d+ [KM]iB")
        self.assertNotIn("auto-load", output)

    def check_use(self, user: str) -> None:
        """A GDB that was told nothing, on a program that runs, from its core, and attached to."""
        live = inside(f"gdb -q -batch -ex 'help tm-stats' {PRELOADED} -ex 'break rmdir' -ex run -ex 'tm-stats lineno' "
                      f"-ex 'generate-core-file {user}.core' --args perl hoard.pl", user)
        self.assertIn('Undefined command: "tm-stats"', live)
        self.assertAnswers(live)
        self.assertAnswers(inside(f"gdb -q -batch -ex 'tm-stats lineno' /usr/bin/perl {user}.core", user))
        # As root: elsewhere a user may attach to no sibling.
        self.assertAnswers(inside(f"""
rm -f {user}.ready
mkfifo {user}.ready
LD_PRELOAD=libtracemalloc.so.0 TRACEMALLOC=25 perl hoard.pl wait >{user}.ready &
read ready <{user}.ready
gdb -q -batch -p $! -ex 'tm-stats lineno'
kill $!"""))

    def test_packages_come_answer_and_go(self) -> None:
        inside("gdb -q -batch -ex 'print 1'")
        before = tree()
        self.addCleanup(purge)
        install(*packages())
        self.assertIn("usr/share/tracemalloc/gdb/tm/__pycache__", tree())
        self.check_use("somebody")
        self.check_use("root")
        purge()
        self.assertEqual(before, tree())

    def test_the_packages_own_test(self) -> None:
        self.addCleanup(purge)
        install("gcc", "libc6-dev", "pkg-config", *packages())
        script = ROOT / "tmp/answers"
        shutil.copy(SOURCE / "debian/tests/answers", script)
        self.assertIn("preloaded, from a core, linked, by the launcher", inside("sh answers", "somebody"))

    def test_make_install_into_usr(self) -> None:
        build = work_directory() / "usr"
        build.mkdir()
        call(source() / "configure", "-q", "--prefix=/usr", directory=build)
        call("make", "-s", "-j2", directory=build)
        inside("gdb -q -batch -ex 'print 1'")
        before = tree()
        uninstall = ("make", "-s", "uninstall", f"DESTDIR={ROOT}")
        self.addCleanup(call, *uninstall, directory=build)
        call("make", "-s", "install", f"DESTDIR={ROOT}", directory=build)
        self.check_use("root")
        call(*uninstall, directory=build)
        self.assertEqual(before, tree())


if __name__ == "__main__":
    unittest.main()
