# Reads a host in one go and changes nothing. Lines in on $I, facts out on stdout, one a line, fields parted
# by "|". Paths come validated: no blank, no glob, no "|".
set -u
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
exec </dev/null
paths= units= packages= shown=
artifacts=/opt/aesop/artifacts
state=/var/lib/aesop/state
printf 'aesop|1\n'
( . /etc/os-release 2>/dev/null && printf 'os|%s|%s\n' "${ID:-}" "${VERSION_ID:-}" )
printf 'machine|%s|%s|%s\n' "$(uname -n)" "$(uname -r)" "$(uname -m)"
printf 'now|%s\n' "$(date +%s)"
while read -r key value _; do
  case $key in MemTotal:) printf 'memory|%s\n' "$value"; break ;; esac
done </proc/meminfo
df -Pk / /var/lib 2>/dev/null | while read -r _ size _ free _ mount; do
  case $size in *[!0-9]*) ;; *) printf 'disk|%s|%s|%s\n' "$mount" "$size" "$free" ;; esac
done
[ -r $state/generation ] && printf 'generation|%s\n' "$(cat $state/generation)"
[ -r $state/lock/owner ] && printf 'lock|%s\n' "$(cat $state/lock/owner)"
for record in $state/units/*; do
  [ -f "$record" ] && printf 'record|%s|%s\n' "${record##*/}" "$(cat "$record")"
done
for store in $artifacts/*; do
  case ${store##*/} in '*' | *.new) ;; *) printf 'artifact|%s\n' "${store##*/}" ;; esac
done
while IFS='|' read -r kind name rest; do
  case $kind in
    path) paths="$paths $name" ;;
    unit) units="$units $name" ;;
    package) packages="$packages $name" ;;
    show) shown="$shown $name=$rest" ;;
    user) id -u "$name" >/dev/null 2>&1 && printf 'user|%s\n' "$name" ;;
    id) [ -r "$name" ] && printf 'id|%s|%s\n' "$name" "$(base64 -w0 "$name")" ;;
  esac
done <<EOF
$I
EOF
if [ -n "$paths" ]; then
  stat -c 'stat|%n|%F|%a|%U|%G' $paths 2>/dev/null
  for path in $paths; do
    [ -L "$path" ] && printf 'link|%s|%s\n' "$path" "$(readlink "$path")"
  done
fi
files=
for entry in $shown; do
  [ -f "${entry%%=*}" ] && files="$files ${entry%%=*}"
done
if [ -n "$files" ]; then
  sums=$(sha256sum $files 2>/dev/null)
  while read -r sum path; do
    printf 'sha256|%s|%s\n' "$path" "$sum"
    # The content travels only where it differs and may be shown.
    for entry in $shown; do
      [ "${entry%%=*}" = "$path" ] || continue
      want=${entry#*=}
      [ "$want" = secret ] || [ "$want" = "$sum" ] || printf 'content|%s|%s\n' "$path" "$(head -c 262144 "$path" | base64 -w0)"
      break
    done
  done <<EOF
$sums
EOF
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
  dpkg-query -W -f 'package|${Package}|${Version}|${db:Status-Status}\n' $packages 2>/dev/null
fi
printf 'end\n'
