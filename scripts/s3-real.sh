#!/usr/bin/env bash
# Runs the tests that need an S3 server against two servers of others, each started here on loopback and
# thrown away: Ceph RGW (from Debian's packages, needs root to install) and Garage (from crates.io; it
# is run, never linked). In this order:
#
#   contract    the contract of stores, what the probe finds, TLS, uploads whose server is killed
#   end to end  the suite over tiers: moves, snapshots, lost machines, two machines at one bucket
#   whole       10,000 rows in parts; a lost machine with large collections
#   crash       processes killed with SIGKILL in front of the server, and the server killed under a database
#   read back   the AWS CLI and pyarrow (from PyPI) read what we wrote
#
#   scripts/s3-real.sh [rgw|garage]...      both by default; a quarter of an hour each
#
# A server that was asked for and cannot be had is a failure. What each is known to lack is in the
# list below and is compared with what the probe finds. Garage takes minutes to build the first
# time; its binary is kept in target/s3-real.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$PWD/target/s3-real
mkdir -p "$tools"
# In memory where there is room: a monitor of Ceph refuses to start on a disk that is nearly full.
where=${TMPDIR:-/tmp}
if [ "$(df --output=avail -k /dev/shm 2>/dev/null | tail -1)" -gt 4000000 ]; then
    where=/dev/shm
fi
state=$(mktemp -d -p "$where")
pids="$state/pids"
: >"$pids"

stop_all() {
    while read -r pid; do
        kill -9 "$pid" 2>/dev/null || true
    done <"$pids"
    rm -rf "$state"
}
trap stop_all EXIT

say() { printf '\n== %s\n' "$*"; }

# A port that nobody listens at now.
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# wait_for SECONDS COMMAND...: until it succeeds.
wait_for() {
    local left=$(($1 * 5))
    shift
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || { echo "gave up waiting for: $*" >&2; return 1; }
        sleep 0.2
    done
}

random_hex() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }

# What every server gets: a key, a bucket, and the tests.
export AKIDB_S3_BUCKET=akidb-real
run_suite() {
    export AKIDB_S3_ENDPOINT="http://127.0.0.1:$1" AKIDB_S3_REGION="$2" AKIDB_S3_LACKS="$3"
    export AKIDB_S3_RESTART="bash '$4'"
    # One after the other: some of them kill the server.
    cargo test -p akidb-tiering --test s3_real -- --ignored --test-threads=1 "${@:5}"
    # `faults` is about a server that fails on command, which no real one does.
    cargo test -p akidb-tests --features s3 --test tiering -- --skip faults::
    cargo test -p akidb-tests --features s3 --test s3_real -- --ignored --test-threads=1 --nocapture
    read_back "$2"
}

# What we wrote, read by tools that know nothing of us.
read_back() {
    local python="$tools/venv/bin/python"
    if [ ! -x "$python" ]; then
        python3 -m venv "$tools/venv"
        "$tools/venv/bin/pip" install --quiet --disable-pip-version-check awscli pyarrow
    fi
    export AWS_ACCESS_KEY_ID="$AKIDB_S3_KEY" AWS_SECRET_ACCESS_KEY="$AKIDB_S3_SECRET"
    export AWS_DEFAULT_REGION="$1" AWS_EC2_METADATA_DISABLED=true
    local aws=("$python" -m awscli --endpoint-url "$AKIDB_S3_ENDPOINT")
    "${aws[@]}" s3 cp "s3://$AKIDB_S3_BUCKET/for-others/sample.parquet" "$state/sample.parquet" --quiet
    cmp "$state/sample.parquet" data/wordnet-queries-100.parquet
    "${aws[@]}" s3 cp "s3://$AKIDB_S3_BUCKET/for-others/parts.bin" "$state/parts.bin" --quiet
    [ "$(tail -c 7 "$state/parts.bin")" = "the end" ]
    [ "$(stat -c %s "$state/parts.bin")" = $((5 * 1024 * 1024 + 7)) ]
    "$python" - <<'PYTHON'
import os
import pyarrow.fs
import pyarrow.parquet

store = pyarrow.fs.S3FileSystem(
    access_key=os.environ["AKIDB_S3_KEY"],
    secret_key=os.environ["AKIDB_S3_SECRET"],
    region=os.environ["AKIDB_S3_REGION"],
    endpoint_override=os.environ["AKIDB_S3_ENDPOINT"],
)
path = os.environ["AKIDB_S3_BUCKET"] + "/for-others/sample.parquet"
theirs = pyarrow.parquet.read_table(path, filesystem=store)
ours = pyarrow.parquet.read_table("data/wordnet-queries-100.parquet")
assert theirs.equals(ours), "the table over S3 is another one"
print(f"pyarrow read {theirs.num_rows} rows over S3")
PYTHON
    echo "the AWS CLI and pyarrow read back what we wrote"
}

# --- Ceph RGW ------------------------------------------------------------------------------------

# Version 16 of Debian 12 takes any checksum without a look, takes only tags without quotes in
# If-Match, and ignores conditions at the end of an upload in parts.
rgw_lacks="if-match,checksums,conditional-complete"

install_rgw() {
    command -v radosgw ceph-mon ceph-osd >/dev/null && return
    say "installing Ceph RGW"
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends radosgw ceph-mon ceph-osd ceph-mgr >/dev/null
}

run_rgw() {
    install_rgw
    say "starting Ceph RGW"
    local d=$state/rgw port mon_port mon_port_1 fsid osd_id osd_key monitors
    mkdir -p "$d/mon" "$d/osd"
    port=$(free_port) mon_port=$(free_port) mon_port_1=$(free_port)
    fsid=$(cat /proc/sys/kernel/random/uuid) osd_id=$(cat /proc/sys/kernel/random/uuid)
    monitors="[v2:127.0.0.1:$mon_port,v1:127.0.0.1:$mon_port_1]"
    export CEPH_CONF=$d/ceph.conf
    cat >"$CEPH_CONF" <<CONF
[global]
fsid = $fsid
mon_host = $monitors
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
run_dir = $d
keyring = $d/keyring
admin_socket = $d/\$name.asok
log_file = $d/\$name.log
mon_data = $d/mon
osd_data = $d/osd
osd_objectstore = memstore
memstore_device_bytes = 8589934592
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pg_autoscale_mode = off
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
osd_crush_chooseleaf_type = 0
# What is deleted is kept for hours by default, and this one is in memory.
rgw_gc_obj_min_wait = 5
rgw_gc_processor_period = 10
rgw_gc_processor_max_time = 10
CONF
    {
        ceph-authtool -C "$d/keyring" --gen-key -n mon. --cap mon 'allow *'
        ceph-authtool "$d/keyring" --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
        monmaptool --create --fsid "$fsid" --addv a "$monitors" "$d/monmap"
        ceph-mon -i a --mkfs --monmap "$d/monmap" --keyring "$d/keyring" --no-mon-config
    } >"$d/setup.log" 2>&1
    ceph-mon -f -i a >"$d/mon.out" 2>&1 &
    echo $! >>"$pids"
    wait_for 60 ceph --connect-timeout 20 mon stat
    osd_key=$(ceph-authtool --gen-print-key)
    echo "{\"cephx_secret\": \"$osd_key\"}" | ceph osd new "$osd_id" -i - >/dev/null
    {
        ceph-authtool -C "$d/osd-keyring" -n osd.0 --add-key "$osd_key"
        ceph-osd -i 0 --keyring "$d/osd-keyring" --mkfs --osd-uuid "$osd_id" --no-mon-config
    } >>"$d/setup.log" 2>&1
    ceph-osd -f -i 0 --keyring "$d/osd-keyring" >"$d/osd.out" 2>&1 &
    echo $! >>"$pids"
    AKIDB_S3_KEY=$(random_hex 10) AKIDB_S3_SECRET=$(random_hex 20)
    export AKIDB_S3_KEY AKIDB_S3_SECRET
    radosgw-admin user create --uid=t --display-name=t \
        --access-key="$AKIDB_S3_KEY" --secret-key="$AKIDB_S3_SECRET" >/dev/null 2>&1
    # Without tcp_nodelay each short answer takes 40 ms.
    # A private authority, and a certificate of it: what a custom CA is for.
    local tls_port
    tls_port=$(free_port)
    {
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
            -subj /CN=akidb-test-authority -keyout "$d/ca.key" -out "$d/ca.pem"
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
            -subj /CN=127.0.0.1 -keyout "$d/tls.key" -out "$d/tls.csr"
        openssl x509 -req -in "$d/tls.csr" -CA "$d/ca.pem" -CAkey "$d/ca.key" -CAcreateserial -days 2 \
            -extfile <(echo subjectAltName=IP:127.0.0.1) -out "$d/tls.pem"
    } >>"$d/setup.log" 2>&1
    export AKIDB_S3_TLS_ENDPOINT="https://127.0.0.1:$tls_port" AKIDB_S3_CA="$d/ca.pem"
    cat >"$d/start.sh" <<START
set -euo pipefail
export CEPH_CONF=$CEPH_CONF
if [ -f $d/rgw.pid ]; then kill -9 \$(cat $d/rgw.pid); sleep 0.5; fi
setsid radosgw -f -n client.admin \
    --rgw-frontends='beast endpoint=127.0.0.1:$port tcp_nodelay=1 ssl_endpoint=127.0.0.1:$tls_port ssl_certificate=$d/tls.pem ssl_private_key=$d/tls.key' >>$d/rgw.out 2>&1 &
echo \$! >$d/rgw.pid
echo \$! >>$pids
for _ in \$(seq 300); do
    curl -s -o /dev/null --max-time 2 http://127.0.0.1:$port/ && exit 0
    sleep 0.2
done
exit 1
START
    bash "$d/start.sh"
    make_bucket "$port" default
    say "Ceph RGW: $(radosgw --version)"
    run_suite "$port" default "$rgw_lacks" "$d/start.sh"
}

# The bucket of servers that make none by themselves.
make_bucket() {
    local python="$tools/venv/bin/python"
    if [ ! -x "$python" ]; then
        python3 -m venv "$tools/venv"
        "$tools/venv/bin/pip" install --quiet --disable-pip-version-check awscli pyarrow
    fi
    AWS_ACCESS_KEY_ID="$AKIDB_S3_KEY" AWS_SECRET_ACCESS_KEY="$AKIDB_S3_SECRET" \
        AWS_DEFAULT_REGION="$2" AWS_EC2_METADATA_DISABLED=true \
        "$python" -m awscli --endpoint-url "http://127.0.0.1:$1" s3api create-bucket \
        --bucket "$AKIDB_S3_BUCKET" >/dev/null
}

# --- Garage --------------------------------------------------------------------------------------

# Ignores every condition of a put, and with it at the end of an upload in parts.
garage_lacks="if-absent,if-match,conditional-complete"
garage_version=2.5.0

install_garage() {
    [ -x "$tools/bin/garage" ] && return
    say "building Garage $garage_version, which takes a while"
    # Its answers are what counts here, not its speed: unoptimised it takes a quarter of the time.
    CARGO_TARGET_DIR="$tools/garage-build" CARGO_PROFILE_RELEASE_OPT_LEVEL=0 \
        CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_DEBUG=false \
        CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        cargo install garage --version "$garage_version" --locked --quiet --root "$tools"
    rm -rf "$tools/garage-build"
}

run_garage() {
    install_garage
    say "starting Garage"
    local d=$state/garage port admin rpc
    mkdir -p "$d"
    port=$(free_port) admin=$(free_port) rpc=$(free_port)
    cat >"$d/garage.toml" <<TOML
metadata_dir = "$d/meta"
data_dir = "$d/data"
db_engine = "sqlite"
replication_factor = 1
rpc_bind_addr = "127.0.0.1:$rpc"
rpc_public_addr = "127.0.0.1:$rpc"
rpc_secret = "$(random_hex 32)"
[s3_api]
s3_region = "garage"
api_bind_addr = "127.0.0.1:$port"
[admin]
api_bind_addr = "127.0.0.1:$admin"
TOML
    AKIDB_S3_KEY=GK$(random_hex 12) AKIDB_S3_SECRET=$(random_hex 32)
    export AKIDB_S3_KEY AKIDB_S3_SECRET
    cat >"$d/start.sh" <<START
set -euo pipefail
if [ -f $d/pid ]; then kill -9 \$(cat $d/pid); sleep 0.5; fi
export GARAGE_DEFAULT_ACCESS_KEY=$AKIDB_S3_KEY GARAGE_DEFAULT_SECRET_KEY=$AKIDB_S3_SECRET
export GARAGE_DEFAULT_BUCKET=$AKIDB_S3_BUCKET
setsid $tools/bin/garage -c $d/garage.toml server --single-node --default-bucket >>$d/out 2>&1 &
echo \$! >$d/pid
echo \$! >>$pids
for _ in \$(seq 300); do
    curl -sf -o /dev/null --max-time 2 http://127.0.0.1:$admin/health && exit 0
    sleep 0.2
done
exit 1
START
    bash "$d/start.sh"
    say "$("$tools/bin/garage" --version)"
    # It has no TLS of its own.
    run_suite "$port" garage "$garage_lacks" "$d/start.sh" --skip trusts_the_authority
}

[ $# -gt 0 ] || set -- rgw garage
for server in "$@"; do
    case "$server" in
        rgw) run_rgw ;;
        garage) run_garage ;;
        *) echo "$server is not one of: rgw garage" >&2; exit 2 ;;
    esac
done
say "all servers passed: $*"
