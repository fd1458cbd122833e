// ioredis against a server of Redis' protocol: DIRECTORY HOST PORT, ioredis lies in DIRECTORY/node_modules.
// Says what it was told, a line each.
"use strict";
const [directory, host, port] = process.argv.slice(2);
const Redis = require(directory + "/node_modules/ioredis");

(async () => {
	const client = new Redis({ host, port: Number(port), connectionName: "node" });
	console.log(await client.ping());
	console.log(await client.set("js:a", 40), await client.get("js:a"), await client.get("js:none"));
	console.log(await client.incr("js:a"), await client.incrby("js:a", 5), await client.decrby("js:a", 4));
	console.log(JSON.stringify(await client.mget("js:a", "js:none")), await client.exists("js:a"), await client.type("js:a"));
	await client.set("js:a", "word").catch(error => console.log(error.message));
	console.log(JSON.stringify(await client.multi().decrby("js:a", 2).incrby("js:b", 2).get("js:a").exec()));
	const many = await client.pipeline(Array.from({ length: 1000 }, () => ["incr", "js:many"])).exec();
	console.log(many.every(([error, value], index) => error === null && value === index + 1));
	for (let number = 0; number < 50; number++) await client.incr("js:scan:" + number);
	const found = new Set();
	for await (const keys of client.scanStream({ match: "js:scan:*", count: 7 })) keys.forEach(key => found.add(key));
	console.log(found.size);
	console.log(JSON.stringify((await client.call("TALLY.EVENT", "js:a", 5, "ID", "js-1")).slice(0, 4)));
	console.log(await client.del("js:a", "js:b", "js:many"));
	client.disconnect();
})().catch(error => { console.log("failed: " + error.message); process.exit(1); });
