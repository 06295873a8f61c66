#!/usr/bin/env bash
# A real Slurm on this machine alone, for tests: one_node.sh start|stop FOLDER, as root on Debian or Ubuntu after
#     apt-get install --no-install-recommends slurm-wlm munge
# Everything is in FOLDER, which must be empty or this script's own: source FOLDER/env before sbatch and squeue.
set -euo pipefail
what=${1:?start or stop} folder=$(realpath -m "${2:?a folder}")

stop() {
    for name in slurmd slurmctld munged; do
        [ -s "$folder/$name.pid" ] && kill "$(cat "$folder/$name.pid")" 2>/dev/null || true
    done
}

if [ "$what" = stop ]; then
    stop
    exit 0
fi
[ "$what" = start ] || { echo "one_node.sh: $what? start or stop" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "one_node.sh: slurmd needs root" >&2; exit 2; }
for program in slurmctld slurmd munged sbatch; do
    command -v "$program" >/dev/null || PATH=$PATH:/usr/sbin command -v "$program" >/dev/null \
        || { echo "one_node.sh: no $program: apt-get install --no-install-recommends slurm-wlm munge" >&2; exit 2; }
done
export PATH=$PATH:/usr/sbin
mkdir -p "$folder"/{state,spool}
host=$(hostname -s)
megabytes=$(($(awk '/MemTotal/ {print $2}' /proc/meminfo) / 1024 - 512))
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'; }

# munged insists on owning its files, and on nobody else being able to write above them
head -c 1024 /dev/urandom >"$folder/munge.key"
chmod 700 "$folder"; chmod 400 "$folder/munge.key"
munged --force --key-file "$folder/munge.key" --socket "$folder/munge.socket" --pid-file "$folder/munged.pid" \
    --log-file "$folder/munged.log" --seed-file "$folder/munge.seed"

cat >"$folder/slurm.conf" <<CONF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SchedulerParameters=sched_interval=5
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$megabytes State=UNKNOWN
PartitionName=test Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
echo "export SLURM_CONF=$folder/slurm.conf PATH=\$PATH:/usr/sbin" >"$folder/env"
export SLURM_CONF=$folder/slurm.conf
slurmctld
slurmd
for _ in $(seq 60); do
    case $(sinfo --noheader --format=%T 2>/dev/null || true) in idle*) echo "Slurm runs: source $folder/env"; exit 0 ;; esac
    sleep 1
done
stop
echo "one_node.sh: the node did not come up; see $folder/*.log" >&2
exit 1
