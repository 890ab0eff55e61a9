"""Ship: make this host's current snapshot another host's, over rsync and ssh; CURRENT last."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from shared.errors import ConfigError, DepotError
from shared.snapshot.directory import PartitionFolder
from shared.snapshot.verify import verify
from shared.storage.files import digest_of

# What runs on the host once its files are there: check, one rename, then CURRENT, then remove old ones. `$1` is the
# partition's folder, `$2` the snapshot's id, `$3` how many are kept; the checksums come on standard input. From the
# lock on it does what `PartitionFolder` does in `add`, `activate` and `keep_newest`: a snapshot that is there already,
# but damaged, is mended file by file; one that a server holds a lease on is not removed. What killed tries
# sent is kept for a day, since the next try goes on with it.
_ACCEPT = """set -eu
exec >&2
cd "$1"
waiting=".shipping/$2"
cat > "$waiting.sums"
check() { (cd "$1" && sha256sum --check --strict --quiet "$OLDPWD/$waiting.sums"); }
check "$waiting"
sync "$waiting"/* "$waiting"
exec 9> .choosing.lock
flock 9
if [ ! -d "$2" ]; then mv "$waiting" "$2"; elif ! check "$2"; then
    for file in "$waiting"/*; do cmp -s "$file" "$2/${file##*/}" || mv "$file" "$2"; done
fi
was=$(cat CURRENT || true)
if [ "$was" != "$2" ]; then
    if [ -n "$was" ]; then echo "$was" > "$waiting.was"; mv "$waiting.was" PREVIOUS; fi
    echo "$2" > "$waiting.now"
    sync "$waiting.now" .
    mv "$waiting.now" CURRENT
    sync .
fi
rm -rf "$waiting" "$waiting.sums"
find .shipping -mindepth 1 -maxdepth 1 -mmin +1440 -exec rm -rf {} + || true
rmdir .shipping || true
ls -d 2???????T??????Z-* | sort -r | tail -n "+$(($3 + 1))" | while read -r old; do
    case "$old" in "$(cat CURRENT)" | "$(cat PREVIOUS || true)") continue ;; esac
    flock --nonblock "$old/manifest.json" rm -rf "$old" || true
done
"""


def ship(here: PartitionFolder, host: str, ssh: str, keep: int, key: str | None = None) -> str:
    """Make the current snapshot that of `user@host:/folder`, too, by the command `ssh`; return its id.

    Raises `ConfigError` where the host is no place, `SnapshotError` where the snapshot is damaged, `DepotError` where
    it does not arrive. What serves there has not changed then.
    """
    found = re.fullmatch(r"([A-Za-z0-9][A-Za-z0-9_.@-]*):(/.*)", host)
    if not found:
        raise ConfigError(f"The host {host!r} is not a place: give HOST=user@host:/folder.")
    login, root = found.groups()
    folder = here.snapshot()
    verify(folder, key, here.partition)
    target = str(PartitionFolder(Path(root), here.partition).path)
    waiting = f"{target}/.shipping/{folder.name}"
    _run([*shlex.split(ssh), login, f"mkdir -p {shlex.quote(waiting)}"])
    progress = ["--info=progress2"] if sys.stdout.isatty() else []
    options = ["--recursive", "--times", "--delete", "--partial-dir=.partial", "--protect-args", *progress]
    try:
        _run(["rsync", *options, f"--rsh={ssh}", f"{folder}/", f"{login}:{waiting}/"])
    except DepotError as error:
        if "status 11" not in str(error):
            raise  # the next try goes on with what is there
        _run([*shlex.split(ssh), login, f"rm -rf {shlex.quote(waiting)}"])
        raise DepotError(f"The files cannot be written to {host}. Is its disk full? {error}") from error
    sums = "".join(f"{digest_of(path).sha256}  {path.name}\n" for path in sorted(folder.iterdir()))
    accept = f"sh -c {shlex.quote(_ACCEPT)} accept {shlex.quote(target)} {folder.name} {keep}"
    _run([*shlex.split(ssh), login, accept], sums)
    return folder.name


def _run(command: list[str], sent: str = "") -> None:
    if shutil.which(command[0]) is None:
        raise ConfigError(f"{command[0]} is not installed on this host.")
    done = subprocess.run(command, input=sent, text=True, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        reason = " ".join(done.stderr.split()[-40:])
        raise DepotError(f"{command[0]} failed with status {done.returncode}: {reason or 'no reason given'}")
