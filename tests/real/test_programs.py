"""Programs that nobody here wrote do the same with the library as without it, and the books of their heaps agree."""

from __future__ import annotations

import random
import shutil
import subprocess
import unittest
from pathlib import Path

from programs import ProgramTest, need, read_report, witnessed
from support import LINKED, SOURCE, compile_file, new_directory

PERL = r"""
use strict; use warnings; use Config;
my %h; push @{$h{$_ % 997}}, "x" x ($_ % 50) for 1..60000;
my $text = join ' ', map { join ',', @$_ } @h{sort { $a <=> $b } keys %h};
$text =~ s/(x{10,})/length($1)/ge;
print length($text), " ", unpack('%32C*', $text), "\n";
open my $pipe, '-|', 'sh', '-c', 'echo from a child' or die; print <$pipe>; close $pipe;
defined(my $pid = fork) or die; if (!$pid) { my @a = map { [1..$_] } 1..200; exit scalar(@a) % 7; }
waitpid $pid, 0; print "child: ", $? >> 8, "\n";
if ($Config{useithreads}) {
    require threads;
    my @t = map { my $n = $_; threads->create(sub { my %m = map { $_ => "v$_" } 1..2000; keys(%m) + $n }) } 1..4;
    print "thread: ", $_->join, "\n" for @t;
}
our @kept = map { [ $_, "kept $_" ] } 1..300;
"""

SQL = """
create table t(a integer primary key, b text, c real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 40000)
insert into t select i, hex(i * 7919 % 100003), i / 7.0 from n;
create index t_b on t(b);
select b, count(*), sum(c) from t where b like '3%' group by substr(b, 1, 3) order by 1 limit 20;
delete from t where a % 3 = 0;
vacuum;
pragma integrity_check;
select group_concat(a) from (select a from t order by c desc limit 50);
"""

GIT = """
set -e
git init -q -b main origin; cd origin
for i in $(seq 30); do
    seq $i $((i * 40)) > file$((i % 7)); mkdir -p d$((i % 3)); date -d @$i > d$((i % 3))/f$i
    git add -A; GIT_AUTHOR_DATE="@$((1700000000 + i)) +0000" GIT_COMMITTER_DATE="@$((1700000000 + i)) +0000" \\
        git commit -q -m "change $i"
done
git checkout -q -b side HEAD~5; echo side > side; git add side; git commit -q -m side
git checkout -q main; git merge -q -m merge side
git log --stat --graph; git gc -q --aggressive; git fsck --strict --full
cd ..; git clone -q --no-local origin clone; cd clone
git log --format='%H %T %s'; git rev-list --objects --all | sort; git blame file3 | head -30; git grep -c 7
git diff HEAD~20 --shortstat; git status; git repack -q -a -d --threads=2; git fsck
cd ..; git -C origin archive --format=tar HEAD | sha256sum; git clone -q file:///nowhere.git nothing || echo "status $?"
rm -rf origin/.git clone/.git
"""

TAR = """
set -e
tar --sort=name --mtime=@0 --owner=0 --group=0 -cf - data | xz -T2 --block-size=512KiB -2 > data.tar.xz
xz -T2 -dc data.tar.xz | tar -tvf - | wc -l
xz -lv data.tar.xz | grep -c CRC64
mkdir out; tar -C out -xJf data.tar.xz; diff -r data out/data; echo the same
"""

OPENSSL = """
set -e
openssl dgst -sha3-512 data; openssl dgst -md5 data
openssl enc -aes-256-cbc -pbkdf2 -S 0123456789abcdef -pass pass:word -in data -out data.enc
openssl enc -d -aes-256-cbc -pbkdf2 -pass pass:word -in data.enc -S 0123456789abcdef | cmp - data
openssl genrsa -out key.pem 2048 2>/dev/null; openssl rsa -in key.pem -check -noout
openssl req -x509 -key key.pem -subj /CN=localhost -days 2 -out cert.pem; openssl x509 -in cert.pem -noout -subject
openssl dgst -sha256 -sign key.pem -out signature data
openssl x509 -in cert.pem -pubkey -noout > public.pem
openssl dgst -sha256 -verify public.pem -signature signature data
: > server.log
openssl s_server -accept 127.0.0.1:0 -naccept 3 -key key.pem -cert cert.pem -rev > server.log 2>&1 &
for i in $(seq 1000); do grep -q ^ACCEPT server.log && break; sleep 0.05; done
port=$(sed -n 's/^ACCEPT .*://p' server.log)
for version in -tls1_2 -tls1_3 -tls1_3; do
    printf 'hello %s\\nCLOSE\\n' "$version" |
        openssl s_client $version -quiet -CAfile cert.pem -connect 127.0.0.1:$port 2>/dev/null || true
done
wait
openssl verify -CAfile cert.pem cert.pem; openssl x509 -in data 2>/dev/null || echo "status $?"
"""

NODE = """
const { Worker, isMainThread, parentPort } = require('worker_threads');
const zlib = require('zlib'), crypto = require('crypto'), { execFileSync } = require('child_process');
if (isMainThread) {
  const big = Array.from({ length: 100000 }, (_, i) => ({ i, s: 'x'.repeat(i % 40) }));
  const packed = zlib.gzipSync(JSON.stringify(big));
  console.log(zlib.gunzipSync(packed).length, crypto.createHash('sha256').update(JSON.stringify(big)).digest('hex'));
  console.log(execFileSync('echo', ['from a child']).toString().trim());
  let left = 3;
  for (let n = 0; n < 3; n++) {
    const worker = new Worker(__filename);
    worker.postMessage(n);
    worker.on('message', m => { console.log(m.total); worker.terminate(); });
    worker.on('exit', () => { if (--left == 0) { console.error('done'); process.exit(3); } });
  }
} else {
  parentPort.on('message', () => {
    let total = 0;
    for (let i = 0; i < 300000; i++) total += new Map([[i, i]]).get(i) % 3;
    parentPort.postMessage({ total });
  });
}
"""

JAVA = """
import java.util.*; import java.util.concurrent.*; import java.util.zip.*;
public class Main {
    public static void main(String[] args) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(4);
        List<Future<Long>> parts = new ArrayList<>();
        for (int n = 0; n < 8; n++) {
            final int seed = n;
            parts.add(pool.submit(() -> {
                Map<String, Integer> map = new HashMap<>();
                Random random = new Random(seed);
                for (int i = 0; i < 50000; i++) map.merge("k" + random.nextInt(5000), i, Integer::sum);
                CRC32 crc = new CRC32(); Deflater deflater = new Deflater();
                byte[] text = new TreeMap<>(map).toString().getBytes(); deflater.setInput(text); deflater.finish();
                byte[] out = new byte[text.length * 2]; crc.update(out, 0, deflater.deflate(out)); deflater.end();
                return crc.getValue();
            }));
        }
        for (Future<Long> part : parts) System.out.println(part.get());
        pool.shutdown();
        Process child = new ProcessBuilder("echo", "from a child").start();
        System.out.print(new String(child.getInputStream().readAllBytes()));
        System.err.println("done");
        System.exit(5);
    }
}
"""


WRONG = """
#include "tracemalloc.h"
#include <stdlib.h>

int main(void)
{
    static char no_block[32];
    void *forgotten = malloc(7), *another_size = malloc(100);
    tm_untrack(0, (uintptr_t)forgotten);
    tm_track(0, (uintptr_t)another_size, 101);
    tm_track(0, (uintptr_t)no_block, 30);
    return 0;
}
"""


def fill_with_data(directory: Path) -> None:
    source = random.Random(5)
    words = [bytes(source.randrange(97, 123) for _ in range(source.randrange(2, 9))) for _ in range(2000)]
    (directory / "data").mkdir()
    for number in range(12):
        (directory / "data" / f"part{number}").write_bytes(b" ".join(source.choices(words, k=60_000)))


def fill_with_one_file(directory: Path) -> None:
    (directory / "data").write_bytes(random.Random(6).randbytes(300_000))


class RealPrograms(ProgramTest):
    def test_sqlite3(self) -> None:
        need("sqlite3")
        self.assertSame(["sqlite3", "file.db", SQL], reports_of="sqlite3", at_least=10)

    def test_sqlite3_in_memory(self) -> None:
        need("sqlite3")
        self.assertSame(["sqlite3", ":memory:", f".read {SOURCE / 'examples' / 'rows.sql'}"], reports_of="sqlite3")

    def test_perl(self) -> None:
        need("perl")
        self.assertSame(["perl", "-e", PERL], reports_of="perl", at_least=2000)

    def test_git(self) -> None:
        need("git")
        self.assertSame(["sh", "-c", GIT], reports_of="git", at_least=50, GIT_CONFIG_NOSYSTEM="1",
                        GIT_AUTHOR_NAME="A", GIT_AUTHOR_EMAIL="a@example.org", GIT_AUTHOR_DATE="@1700000000 +0000",
                        GIT_COMMITTER_NAME="C", GIT_COMMITTER_EMAIL="c@example.org",
                        GIT_COMMITTER_DATE="@1700000000 +0000")

    def test_gcc(self) -> None:
        """The driver, cc1, as, collect2 and ld, on sources of the library."""
        need("gcc")

        def fill(directory: Path) -> None:
            for path in [*(SOURCE / "runtime").glob("*.h"), *(SOURCE / "runtime").glob("s*.c")]:
                shutil.copy(path, directory)
            (directory / "main.c").write_text('#include <stdio.h>\nint main(void) { return puts("linked") < 0; }\n')

        self.assertSame(["sh", "-c", "set -e; gcc -std=gnu11 -O2 -g -c -I. *.c; "
                         "gcc -O2 -o linked main.o; ./linked; ar rcsD all.a *.o; nm all.a; strip -o small linked; "
                         "gcc -c nothing.c || echo status $?"],
                        fill, reports_of="cc1", at_least=1000)

    def test_gplusplus(self) -> None:
        need("g++")

        def fill(directory: Path) -> None:
            part = (SOURCE / "bench" / "programs" / "part.cc.in").read_text().replace("@N@", "1")
            headers = "algorithm functional iostream map memory regex set sstream string unordered_map variant vector"
            (directory / "part.cc").write_text("".join(f"#include <{name}>\n" for name in headers.split()) + part)

        self.assertSame(["g++", "-std=c++17", "-O1", "-g", "-c", "part.cc"], fill, reports_of="cc1plus", at_least=10000)

    def test_tar_and_xz(self) -> None:
        need("tar", "xz")
        self.assertSame(["sh", "-c", TAR], fill_with_data, reports_of="tar")

    def test_openssl(self) -> None:
        need("openssl")
        self.assertSame(["sh", "-c", OPENSSL], fill_with_one_file, reports_of="openssl",
                        left_out=["*.pem", "signature", "server.log"])

    def test_node(self) -> None:
        need("node")
        self.assertSame(["node", "main.js"], lambda directory: (directory / "main.js").write_text(NODE),
                        status=3, reports_of="node", at_least=100, slack=4096)  # its threads run on while it ends

    def test_java(self) -> None:
        need("java", "javac")
        self.assertSame(["java", "-XX:-UsePerfData", "-Xmx256m", "Main.java"],
                        lambda directory: (directory / "Main.java").write_text(JAVA),
                        status=5, reports_of="java", at_least=100)


class TheWitness(ProgramTest):
    """That the oracle would see it."""

    def test_it_sees_what_is_wrong(self) -> None:
        directory, reports = new_directory(), new_directory()
        (directory / "wrong.c").write_text(WRONG)
        wrong = compile_file(directory / "wrong.c", directory / "wrong", *LINKED)
        subprocess.run([str(wrong)], env=witnessed(reports), check=True)
        report, = (read_report(path.read_text()) for path in reports.iterdir())
        self.assertEqual(((1, 7), (1, 101), (1, 30)), (report.missing, report.resized, report.ghosts))
        with self.assertRaises(AssertionError):
            self.assertReportIsClean(report)


if __name__ == "__main__":
    unittest.main()
