#!/usr/bin/env bash
# Makes what the evidence machine `vm` boots: a kernel, and a first file system in memory with the
# `evidence` program in it. Needs Debian or Ubuntu, root, /dev/kvm, and the packages
# qemu-system-x86, busybox-static, cpio, kmod and e2fsprogs. Usage: scripts/vm.sh [DIRECTORY], then
#   cargo run --release -p akidb-tests --bin evidence -- vm --set vm=DIRECTORY --runs 100
set -euo pipefail
cd "$(dirname "$0")/.."
out="$(realpath -m "${1:-target/vm}")"
target="${CARGO_TARGET_DIR:-target}"

for tool in qemu-system-x86_64 busybox cpio depmod modprobe mkfs.ext4 ldd; do
    command -v "$tool" > /dev/null || { echo "vm.sh: $tool is not installed" >&2; exit 1; }
done
[ -w /dev/kvm ] || { echo "vm.sh: /dev/kvm cannot be used" >&2; exit 1; }

mkdir -p "$out"
if [ ! -e "$out/vmlinuz" ]; then
    # The distribution's kernel, unpacked and not installed.
    package="$(apt-cache depends linux-image-amd64 | awk '/Depends: linux-image/ { print $2; exit }')"
    (cd "$out" && apt-get download -qq "$package")
    dpkg-deb -x "$out/$package"_*.deb "$out/kernel"
    cp "$out"/kernel/boot/vmlinuz-* "$out/vmlinuz"
fi

cargo build --release -p akidb-tests --bin evidence "${@:2}"

root="$out/root"
rm -rf "$root"
mkdir -p "$root"/{bin,dev,proc,sys,share,tmp}
cp "$(command -v busybox)" "$root/bin/busybox"
cp "$target/release/evidence" "$root/bin/evidence"
# The libraries that it is linked with.
ldd "$target/release/evidence" | awk '/\// { print $(NF-1) }' | while read -r library; do
    install -D "$library" "$root$library"
done
# The modules for its disks, in the order in which they depend on each other.
version="$(ls "$out/kernel/lib/modules")"
depmod -b "$out/kernel" "$version"
for module in virtio_pci virtio_blk crc32c_generic ext4 9pnet_virtio 9p; do
    modprobe -d "$out/kernel" -S "$version" --show-depends "$module"
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r module; do
    cp "$module" "$root/"
    printf '%s\n' "/$(basename "$module")" >> "$root/modules"
done
cat > "$root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
while read -r module; do /bin/busybox insmod "$module"; done < /modules
# Its operating system writes back early, so that a loss of power meets writes without a flush.
echo 5 > /proc/sys/vm/dirty_writeback_centisecs
echo 5 > /proc/sys/vm/dirty_expire_centisecs
# Calls are noted on the host, past every cache of this machine.
/bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,cache=none share /share
/bin/busybox mount -t ext4 /dev/vda /share/db
/bin/evidence kill-child "$(/bin/busybox cat /share/task)" 2>&1
/bin/busybox poweroff -f
INIT
chmod +x "$root/init"
(cd "$root" && find . | cpio --quiet -o -H newc | gzip -1) > "$out/initrd"
echo "made $out/vmlinuz and $out/initrd"
