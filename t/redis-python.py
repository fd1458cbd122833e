# python3-redis against a server of Redis' protocol: HOST PORT.  Says what it was told, a line each.
import sys

import redis

client = redis.Redis(host=sys.argv[1], port=int(sys.argv[2]), db=0, decode_responses=True, client_name="py")
print(client.ping())
print(client.set("py:a", 40), client.get("py:a"), client.get("py:none"))
print(client.incr("py:a"), client.incrby("py:a", 5), client.decr("py:a", 4))
print(client.mget("py:a", "py:none"), client.exists("py:a", "py:none"), client.type("py:a"), client.ttl("py:a"))
print(client.set("py:a", 1, nx=True), client.set("py:a", 1, xx=True), client.getset("py:a", 42))
try:
    client.set("py:a", "word")
except redis.ResponseError as error:
    print(error)
with client.pipeline(transaction=True) as pipe:
    print(pipe.decrby("py:a", 2).incrby("py:b", 2).get("py:a").execute())
with client.pipeline() as pipe:
    pipe.watch("py:a")
    seen = int(pipe.get("py:a"))
    pipe.multi()
    pipe.set("py:a", seen * 2)
    print(pipe.execute())
    pipe.watch("py:a")
    client.incr("py:a")
    pipe.multi()
    pipe.set("py:a", 0)
    try:
        pipe.execute()
    except redis.WatchError:
        print("watched")
with client.pipeline(transaction=False) as pipe:
    for number in range(1000):
        pipe.incr("py:many")
    print(pipe.execute() == list(range(1, 1001)))
for number in range(50):
    client.incr("py:scan:%d" % number)
print(len(set(client.scan_iter(match="py:scan:*", count=7))))
print(client.config_get("appendonly"), client.info("server")["redis_version"], client.client_getname())
print(client.execute_command("TALLY.EVENT", "py:a", 5, "ID", "py-1")[:4])
print(client.delete("py:a", "py:b", "py:many", *["py:scan:%d" % number for number in range(50)]))
