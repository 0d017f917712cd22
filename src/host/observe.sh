# Reads a host in one go and changes nothing. Lines in on $I, facts out on stdout, one a line, fields parted
# by "|". Paths come validated: no blank, no glob, no "|". Where there may be many lines it goes through them as words, not by
# `read`, which asks the kernel for each byte.
set -u
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
exec </dev/null
newline='
'
blanks=$IFS
paths= links= users= units= packages= shown= disks= ports= java= peers= leaving= ours= gone=
artifacts=/opt/aesop/artifacts
state=/var/lib/aesop/state
printf 'aesop|1\n'
( . /etc/os-release 2>/dev/null && printf 'os|%s|%s\n' "${ID:-}" "${VERSION_ID:-}" )
if [ -r /var/lib/aesop/state/cluster.lock ]; then # first of all: a newer aesop's other words may not be known
  while IFS=': ' read -r key value; do
    [ "$key" != aesop ] || { printf 'deployed|%s\n' "$value"; break; }
  done </var/lib/aesop/state/cluster.lock
fi
printf 'machine|%s\n' "$(uname -nrm)"
[ -d /run/systemd/system ] && printf 'systemd\n'
while read -r key value _; do
  case $key in Uid:) printf 'uid|%s\n' "$value"; break ;; esac
done </proc/self/status
printf 'libc|%s\n' "$(getconf GNU_LIBC_VERSION 2>/dev/null)"
printf 'now|%s\n' "$(date +%s)"
while read -r key value _; do
  case $key in MemTotal:) printf 'memory|%s\n' "$value"; break ;; esac
done </proc/meminfo
first() { line=; IFS= read -r line <"$1"; } # the first line, without a program of its own
if [ -r /proc/sys/kernel/random/boot_id ] && [ -r /proc/1/stat ]; then # in some containers the first outlives a reboot
  first /proc/sys/kernel/random/boot_id
  boot=${line%%-*}
  first /proc/1/stat
  set -- ${line##*) }
  printf 'boot|%s.%s\n' "$boot" "${20}"
fi
[ -r $state/generation ] && first $state/generation && printf 'generation|%s\n' "$line"
[ -r $state/lock/owner ] && printf 'lock|%s|%s\n' "$(cat $state/lock/owner)" "$(stat -c %Y $state/lock/owner)"
[ -r $state/lock/operation ] && first $state/lock/operation && printf 'operation|%s\n' "$line"
if [ -r $state/manifest ]; then
  lines=$(cat $state/manifest)
  IFS=$newline
  set -f
  set -- $lines
  set +f
  IFS=$blanks
  for line; do # role service kind name value
    name=${line#*|*|}
    kind=${name%%|*} name=${name#*|}
    name=${name%%|*}
    # Data that somebody took away is forgotten.
    [ "$kind" != data ] || [ -d "$name" ] || continue
    printf 'manifest|%s\n' "$line"
    [ "$kind" != file ] || ours="$ours $name"
    case "${line%%|*}|$kind|$name" in
      'zookeeper|data|'*/conf) # its members, as it keeps them itself
        pointer=$(sed -n 's/^dynamicConfigFile=//p' "$name/zoo.cfg" 2>/dev/null)
        [ -s "$pointer" ] || pointer=$(ls -t "$name"/zoo.cfg.dynamic.* 2>/dev/null | head -n 1)
        [ -s "$pointer" ] && printf 'ensemble|%s|%s|%s\n' "${pointer##*/}" "$(base64 -w0 "$pointer")" "$(cat "${name%/conf}/myid" 2>/dev/null)"
        ;;
    esac
  done
fi
for kept in $state/generations/*.artifacts; do
  [ -f "$kept" ] && kept=${kept%.artifacts} && first "$kept.artifacts" && printf 'kept|%s|%s\n' "${kept##*/}" "$line"
done
for record in $state/units/*; do
  [ -f "$record" ] && first "$record" && printf 'record|%s|%s\n' "${record##*/}" "$line"
done
for store in $artifacts/*; do
  case ${store##*/} in '*' | *.new) ;; *) printf 'artifact|%s\n' "${store##*/}" ;; esac
done
IFS=$newline
set -f
set -- $I
set +f
IFS=$blanks
for line; do
  kind=${line%%|*} name=${line#*|}
  rest=${name#*|}
  name=${name%%|*}
  case $kind in
    path) paths="$paths $name" ;;
    unit) units="$units $name" ;;
    package) packages="$packages $name" ;;
    show) shown="$shown $name=$rest" ;;
    user) users="$users $name" ;;
    disk) disks="$disks $name" ;;
    port) ports="$ports $name " ;;
    java) java=$name ;;
    peer) peers="$peers $name" ;;
    leaving) leaving=yes ;;
    snapshot) [ -r "$state/generations/$name" ] && printf 'snapshot|%s|%s\n' "$name" "$(base64 -w0 "$state/generations/$name")" ;;
    id) [ -r "$name" ] && printf 'id|%s|%s\n' "$name" "$(base64 -w0 "$name")" ;;
  esac
done
if [ -n "$users" ]; then
  getent passwd $users | while IFS=: read -r name _; do printf 'user|%s\n' "$name"; done
fi
if [ -n "$leaving" ]; then # what of ours nobody asks about goes: who reads the plan sees what is in it
  set -- $shown
  for path in $ours; do # in the order of the questions, but for what has changed
    next=${1-}
    [ "${next%%=*}" != "$path" ] || { shift; continue; }
    case "$paths $gone " in *" $path "*) ;; *) gone="$gone $path" ;; esac
  done
  if [ -n "$gone" ]; then
    paths="$paths$gone"
    shown="$shown$(stat -c ' %n=mode%a' $gone 2>/dev/null | tr -d '\n')"
  fi
fi
if [ -n "$paths" ]; then
  stat -c 'stat|%n|%F|%a|%U|%G' $paths 2>/dev/null
  for path in $paths; do
    [ -L "$path" ] && links="$links $path"
  done
  if [ -n "$links" ]; then
    targets=$(readlink $links)
    set -- $links
    while IFS= read -r target; do
      printf 'link|%s|%s\n' "$1" "$target"
      shift
    done <<EOF
$targets
EOF
  fi
fi
files= present=
for entry in $shown; do
  [ -f "${entry%%=*}" ] && files="$files ${entry%%=*}" && present="$present $entry"
done
if [ -n "$files" ]; then
  sums=$(sha256sum $files 2>/dev/null)
  set -- $present # beside the sums: a search in one long word takes a shell longer than all the rest
  IFS=$newline
  for line in $sums; do
    sum=${line%% *} path=${line#*  }
    printf 'sha256|%s|%s\n' "$path" "$sum"
    while [ $# -gt 0 ] && [ "${1%%=*}" != "$path" ]; do shift; done # gone since
    want=secret
    [ $# -eq 0 ] || want=${1#*=}
    case $want in # the content travels only where it differs and may be shown
      secret | "$sum" | mode*[0123]) ;;
      *) printf 'content|%s|%s\n' "$path" "$(head -c 262144 "$path" | base64 -w0)" ;;
    esac
  done
  IFS=$blanks
fi
if [ -n "$disks" ]; then
  places= mounts=
  for path in $disks; do # what is not there yet will be made where its parent is
    place=$path
    while [ ! -e "$place" ]; do place=${place%/*}; place=${place:-/}; done
    places="$places $place"
  done
  set -- $disks
  sizes=$(df -Pk $places 2>/dev/null)
  while read -r _ size _ free _ mount; do
    case $size in *[!0-9]*) continue ;; esac
    printf 'disk|%s|%s|%s|%s\n' "$1" "$mount" "$size" "$free"
    mounts="$mounts $mount "
    shift
  done <<EOF
$sizes
EOF
  while read -r _ mount _ options _; do
    case $mounts in *" $mount "*) printf 'mount|%s|%s\n' "$mount" "$options" ;; esac
  done </proc/self/mounts
fi
if [ -n "$ports" ]; then
  # In hexadecimal, as the kernel says it; who listens is looked up only where it is one that was asked about.
  open=
  lines=$(grep -hs ' 0A ' /proc/net/tcp /proc/net/tcp6)
  while read -r _ local _ state _; do
    [ "$state" = 0A ] || continue
    port=$((0x${local##*:}))
    case $open in *" $port "*) continue ;; esac
    case $ports in *" $port "*) open="$open $port " ;; esac
  done <<EOF
$lines
EOF
  if [ -n "$open" ]; then
    lines=$(ss -Hltnp 2>/dev/null)
    for port in $open; do
      who=
      while read -r _ _ _ local _ users; do
        case $local in *:$port) who=${users#*\"}; who=${who%%\"*}; break ;; esac
      done <<EOF
$lines
EOF
      printf 'listens|%s|%s\n' "$port" "$who"
    done
  fi
fi
if [ -n "$java" ]; then
  real=$(readlink -f "$java" 2>/dev/null)
  if [ -n "$real" ] && [ -x "$real" ]; then
    version=
    if [ -r "${real%/bin/java}/release" ]; then
      while IFS='="' read -r key _ value _; do
        [ "$key" = JAVA_VERSION ] && version=$value
      done <"${real%/bin/java}/release"
    fi
    printf 'java|%s|%s\n' "$real" "$version"
  fi
fi
if [ -n "$peers" ]; then
  for peer in $peers; do # refused is good enough: the way is free, only nobody is at home yet
    {
      said=$(timeout 4 bash -c 'exec 3<>"/dev/tcp/${1%,*}/${1##*,}"' - "$peer" 2>&1)
      case $?:$said in
        0:*) how=open ;;
        *refused*) how=refused ;;
        124:*) how=silent ;;
        *) how=${said%%
*}; how=${how##*: } ;;
      esac
      printf 'peer|%s|%s\n' "$peer" "$how"
    } &
  done
  wait
fi
if [ -n "$units" ]; then
  name= active= sub= file= reload= since=
  systemctl show -p Id,ActiveState,SubState,UnitFileState,NeedDaemonReload,ActiveEnterTimestamp $units 2>/dev/null |
    { while IFS= read -r line; do
        case $line in
          Id=*) name=${line#*=} ;;
          ActiveState=*) active=${line#*=} ;;
          SubState=*) sub=${line#*=} ;;
          UnitFileState=*) file=${line#*=} ;;
          NeedDaemonReload=*) reload=${line#*=} ;;
          ActiveEnterTimestamp=*) since=${line#*=} ;;
          '') printf 'unit|%s|%s|%s|%s|%s|%s\n' "$name" "$active" "$sub" "$file" "$reload" "$since"; name= ;;
        esac
      done
      [ -z "$name" ] || printf 'unit|%s|%s|%s|%s|%s|%s\n' "$name" "$active" "$sub" "$file" "$reload" "$since"; }
fi
if [ -n "$packages" ]; then
  inode=$(stat -c %i /var/lib/dpkg/lock-frontend 2>/dev/null)
  while read -r _ _ _ _ pid file _; do
    [ "${file##*:}" = "$inode" ] && printf 'dpkg|%s|%s\n' "$pid" "$(cat "/proc/$pid/comm" 2>/dev/null)"
  done </proc/locks
  dpkg-query -W -f 'package|${Package}|${Version}|${db:Status-Status}\n' $packages 2>/dev/null
fi
printf 'end\n'
