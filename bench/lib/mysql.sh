# MySQL 9.7 servers for the benchmarks, from the lab's image, and their load.
mysql_image() { # the lab's image of MySQL 9.7, built if it is not there
    local image
    image=$(ls -dt "$cache"/lab/mysql97-*/ 2>/dev/null | head -n 1)
    if [ -z "$image" ]; then
        (cd "$bench_dir/.." && cargo run --quiet --release --bin aesop -- lab prepare --mysql) >&2
        image=$(ls -dt "$cache"/lab/mysql97-*/ | head -n 1)
    fi
    echo "${image%/}"
}

# mysql_start NAME PORT [SETTING...]: a fresh server; further lines for my.cnf. Sets $mysql_root and $mysql_pid
mysql_start() {
    local name=$1 port=$2 dir=$work/$1
    shift 2
    ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || die "port $port is in use: another benchmark runs"
    mysql_root=$dir/root
    mkdir -p "$dir/upper" "$dir/work" "$mysql_root"
    mount -t overlay overlay -o "lowerdir=$(mysql_image),upperdir=$dir/upper,workdir=$dir/work" "$mysql_root"
    mount -t proc proc "$mysql_root/proc"
    mount --rbind /dev "$mysql_root/dev"
    rm -rf "$mysql_root/var/lib/mysql"
    install -d -o "$(stat -c %u "$(mysql_image)/var/lib/mysql")" -g "$(stat -c %g "$(mysql_image)/var/lib/mysql")" "$mysql_root/var/lib/mysql"
    {
        printf '%s\n' '[mysqld]' user=mysql datadir=/var/lib/mysql "socket=/var/lib/mysql/sock" pid_file=/var/lib/mysql/pid "port=$port" \
            bind_address=127.0.0.1 skip_name_resolve=ON mysqlx=OFF "server_id=$port" log_bin=binlog binlog_row_metadata=FULL \
            gtid_mode=ON enforce_gtid_consistency=ON sync_binlog=0 innodb_flush_log_at_trx_commit=0 innodb_buffer_pool_size=512M \
            max_binlog_size=1G innodb_redo_log_capacity=1G performance_schema=OFF init_file=/etc/mysql/bench.sql "$@"
    } >"$mysql_root/etc/mysql/bench.cnf"
    cat >"$mysql_root/etc/mysql/bench.sql" <<SQL
CREATE USER IF NOT EXISTS 'bench'@'%' IDENTIFIED BY 'bench';
GRANT ALL ON *.* TO 'bench'@'%' WITH GRANT OPTION;
SQL
    chroot "$mysql_root" /usr/sbin/mysqld --defaults-file=/etc/mysql/bench.cnf --initialize-insecure >"$work/$name-init.log" 2>&1 ||
        { tail -n 5 "$work/$name-init.log" >&2; die "MySQL does not initialize"; }
    start "$name" chroot "$mysql_root" /usr/sbin/mysqld --defaults-file=/etc/mysql/bench.cnf
    mysql_pid=$pid
    until_true 60 "MySQL on port $port" sql "$port" 'SELECT 1'
}

# sql PORT [STATEMENTS]: the statements, or stdin
sql() {
    local port=$1
    shift
    chroot "$mysql_root" /usr/bin/mysql --no-defaults --ssl-mode=DISABLED --get-server-public-key -h 127.0.0.1 -P "$port" -ubench -pbench \
        --batch --skip-column-names ${1:+-e "$1"} 2> >(grep -v 'password on the command line' >&2)
}

# The nine mixed columns that every benchmark uses.
bench_table='CREATE DATABASE IF NOT EXISTS shop; DROP TABLE IF EXISTS shop.bench;
    CREATE TABLE shop.bench (id BIGINT UNSIGNED NOT NULL PRIMARY KEY, name VARCHAR(60) NOT NULL, amount DECIMAL(12,2) NOT NULL,
    created DATETIME(3) NOT NULL, flags BIT(8) NOT NULL, body JSON NOT NULL, ratio DOUBLE NOT NULL,
    state ENUM("new","paid","shipped") NOT NULL, note VARCHAR(120)) DEFAULT CHARSET utf8mb4'

# rows_from FROM COUNT: an INSERT of rows with these ids
rows_from() {
    printf '%s' "INSERT INTO shop.bench SELECT n, CONCAT('customer ', n), n / 7, '2026-11-22 15:02:53.630', n % 256,
      JSON_OBJECT('sku', n, 'tags', JSON_ARRAY('a', 'b'), 'ok', true), n / 3, 'new', REPEAT('x', n % 60)
      FROM (WITH RECURSIVE s AS (SELECT $1 AS n UNION ALL SELECT n + 1 FROM s WHERE n + 1 < $(($1 + $2))) SELECT n FROM s) t;"
}

# backlog PORT EVENTS: half inserts, half updates, in transactions of 1000 rows
backlog() {
    local port=$1 half=$(($2 / 2)) from
    say "writing $2 row events"
    sql "$port" "$bench_table"
    for ((from = 0; from < half; from += 1000)); do
        rows_from "$from" 1000
        echo "UPDATE shop.bench SET state = 'paid', amount = amount + 1 WHERE id >= $from AND id < $((from + 1000));"
    done | sql "$port"
}

# single_rows PORT EVENTS: the same, each row a transaction of its own
single_rows() {
    say "writing $2 transactions of one row"
    sql "$1" "$bench_table"
    awk -v half=$(($2 / 2)) 'BEGIN {
        for (n = 0; n < half; n++) {
            note = sprintf("%" n % 60 "s", ""); gsub(/ /, "x", note)
            printf "INSERT INTO shop.bench VALUES (%d, \"customer %d\", %d / 7, \"2026-11-22 15:02:53.630\", %d, JSON_OBJECT(\"sku\", %d, \"tags\", JSON_ARRAY(\"a\", \"b\"), \"ok\", true), %d / 3, \"new\", \"%s\");\n", n, n, n, n % 256, n, n, note
            printf "UPDATE shop.bench SET state = \"paid\", amount = amount + 1 WHERE id = %d;\n", n
        }
    }' | sql "$1"
}

# binlog_end PORT: file and offset
binlog_end() { sql "$1" 'SHOW BINARY LOG STATUS' | awk '{print $1, $2}'; }
# binlog_bytes PORT: of all files
binlog_bytes() { sql "$1" 'SHOW BINARY LOGS' | awk '{s += $2} END {print s}'; }
