# ZooKeeper and three Kafka brokers (KRaft) as processes on loopback, from the jars that aesop pins.

# jars NAME: the classpath of a pinned artifact, fetched by Maven where aesop's cache lacks it
jars() {
    local list=$bench_dir/../src/artifact/pinned/$1.txt dir=$work/jars-$1 line coordinates sum file missing=() parts
    if [ ! -d "$dir" ]; then
        mkdir -p "$dir"
        while read -r coordinates sum; do
            IFS=: read -ra parts <<<"$coordinates"
            file=${parts[1]}-${parts[2]}${parts[3]:+-${parts[3]}}.jar
            if [ -f "$cache/artifacts/sha512/$sum/$file" ]; then
                ln -s "$cache/artifacts/sha512/$sum/$file" "$dir/$file"
            else
                missing+=("<dependency><groupId>${parts[0]}</groupId><artifactId>${parts[1]}</artifactId><version>${parts[2]}</version>${parts[3]:+<classifier>${parts[3]}</classifier>}<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions></dependency>")
            fi
        done < <(grep -v '^#' "$list")
        if [ ${#missing[@]} -gt 0 ]; then
            say "fetching ${#missing[@]} jars of $1"
            echo "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion><groupId>aesop</groupId><artifactId>bench</artifactId><version>1</version><packaging>pom</packaging><dependencies>${missing[*]}</dependencies></project>" >"$work/pom.xml"
            mvn -q -B -f "$work/pom.xml" dependency:copy-dependencies -DoutputDirectory="$dir" >&2
        fi
    fi
    echo "$dir/*"
}

zookeeper_port=13986
zookeeper_start() {
    local classpath
    classpath=$(jars zookeeper-3.9.4)
    mkdir -p "$work/zk"
    printf '%s\n' "dataDir=$work/zk" "clientPort=$zookeeper_port" clientPortAddress=127.0.0.1 admin.enableServer=false tickTime=2000 >"$work/zoo.cfg"
    start zookeeper java -Xmx128m -cp "$classpath" org.apache.zookeeper.server.ZooKeeperServerMain "$work/zoo.cfg"
    until_true 60 ZooKeeper bash -c "exec 3<>/dev/tcp/127.0.0.1/$zookeeper_port"
}

brokers=127.0.0.1:13982,127.0.0.1:13983,127.0.0.1:13984
# kafka_start: three brokers, the first of them the controller too; replication factor 1
kafka_start() {
    local classpath id cluster=BENCHBENCHBENCHBENCHBE role listeners
    classpath=$(jars kafka-4.2.0)
    for id in 1 2 3; do
        role=broker listeners=PLAINTEXT://127.0.0.1:$((13981 + id))
        [ "$id" = 1 ] && role=broker,controller listeners+=,CONTROLLER://127.0.0.1:13989
        printf '%s\n' "process.roles=$role" "node.id=$id" "listeners=$listeners" "advertised.listeners=PLAINTEXT://127.0.0.1:$((13981 + id))" \
            controller.quorum.voters=1@127.0.0.1:13989 controller.listener.names=CONTROLLER \
            listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT "log.dirs=$work/kafka$id" \
            offsets.topic.replication.factor=1 transaction.state.log.replication.factor=1 transaction.state.log.min.isr=1 \
            default.replication.factor=1 auto.create.topics.enable=true num.partitions=6 >"$work/kafka$id.properties"
        java -cp "$classpath" kafka.tools.StorageTool format -t "$cluster" -c "$work/kafka$id.properties" >"$work/format.log" 2>&1 || { cat "$work/format.log" >&2; die "Kafka does not format its directory"; }
        start "kafka$id" java -Xms512m -Xmx512m -XX:+UseG1GC -cp "$classpath" kafka.Kafka "$work/kafka$id.properties"
    done
    until_true 90 "three brokers" three_brokers
    # Brokers that have just started are slow, and whoever comes first would pay for it.
    say "warming the brokers up"
    local round
    for round in 1 2 3 4; do
        awk 'BEGIN {line = sprintf("%600s", ""); gsub(/ /, "x", line); for (n = 0; n < 300000; n++) print n, line}' |
            kcat -P -b "$brokers" -t warm -z lz4 -X acks=all -X enable.idempotence=true -X linger.ms=10 2>/dev/null
    done
}
three_brokers() { [ "$(kcat -b "$brokers" -L 2>/dev/null | grep -c '^  broker ')" = 3 ]; }

# records TOPIC PARTITIONS: how many a topic holds, by its offsets
records() {
    local list=() p
    for ((p = 0; p < $2; p++)); do list+=(-t "$1:$p:-1"); done
    kcat -b "$brokers" -Q "${list[@]}" 2>/dev/null | awk '{s += $NF} END {printf "%d", s}'
}
