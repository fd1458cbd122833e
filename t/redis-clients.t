#!/usr/bin/perl
# Clients that people have, at tallyd: redis-cli, redis-benchmark, hiredis, python3-redis, ioredis.  What
# they say there is what they say at a real redis-server, where there is one, but for what only tallyd has.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Config;
use File::Temp ();
use Redis;
use Tallyd qw(source_dir slurp);
use Test::More;

use constant {
	DEADLINE => 60,     # seconds for one client
	REQUESTS => 20_000,
	IOREDIS  => '5.4.1',
};

my $tallyd = Tallyd->start(listen => [['127.0.0.1:0', { protocol => 'http' }], ['127.0.0.1:0', { protocol => 'redis' }]], config => { ring_size => '8M', journal_segment => '16M' });
my $real = Redis->server;
my ($host, $port) = $tallyd->address(1) =~ /^(.*):(\d+)$/;
my $dir = File::Temp::tempdir(CLEANUP => 1);

sub has { my ($command) = @_; return grep { -x "$_/$command" } split(/:/, $ENV{PATH}), '/usr/bin' }

# (exit status, what was said) of COMMAND.
sub run {
	my (@command) = @_;
	open my $from, '-|', 'timeout', DEADLINE, 'sh', '-c', 'exec "$@" 2>&1', 'sh', @command or die "cannot run $command[0]: $!";
	local $/;
	my $said = <$from>;
	close $from;
	return ($? >> 8, $said);
}

# COMMAND, with an address behind it, says at tallyd what it says at Redis, if that is here; and WANTED.
sub says {
	my ($name, $wanted, @command) = @_;
	my ($status, $said) = run(@command, $host, $port);
	is($status, 0, "$name runs") or diag($said);
	is($said, $wanted, "$name is told what it has to be");
	return unless $real;
	my $address = $real->address;
	my (undef, $there) = run(@command, $address =~ /^(.*):(\d+)$/);
	# What comes after a command that only tallyd has is not said there.
	my @wanted = grep { !/TALLY|balance|word/i } split /\n/, $wanted;
	my @there = grep { !/TALLY|balance|word/i } split /\n/, $there // '';
	my $most = $#there < $#wanted ? $#there : $#wanted;
	is_deeply([@there[0 .. 3]], [@wanted[0 .. 3]], '... at Redis, too');
	return;
}

# ---- redis-cli

sub test_cli {
	return unless has('redis-cli');
	my $cli = sub { my (undef, $said) = run('redis-cli', '-h', $host, '-p', $port, @_); return $said };
	is($cli->('INCRBY', 'cli', 5), "5\n", 'redis-cli: a number');
	is($cli->('--no-raw', 'INCRBY', 'cli', 5), "(integer) 10\n", 'as people see it');
	is($cli->('--no-raw', '-3', 'HELLO') =~ /"proto" => \(integer\) 3/ ? 1 : 0, 1, 'RESP3');
	is($cli->('--no-raw', 'GET', 'none'), "(nil)\n", 'nothing');
	is(join(' ', sort split /\s+/, $cli->('--scan', '--pattern', 'cl*')), 'cli', '--scan');
	is($cli->('-n', 0, 'GET', 'cli'), "10\n", '-n 0');
	my $file = "$dir/commands";
	open my $out, '>', $file or die "cannot write: $!";
	print {$out} map { "INCRBY piped $_\r\n" } 1 .. 1000;
	close $out or die "cannot write: $!";
	like((run('sh', '-c', "redis-cli -h $host -p $port --pipe <'$file'"))[1], qr/errors: 0, replies: 1000/, '--pipe: many at once');
	is($cli->('GET', 'piped'), "500500\n", '  all of them');
	like($cli->('--no-raw', 'TALLY.STATEMENT', 'cli', 'LIMIT', 1), qr/"amount"\n.*\(integer\) 5/, 'a statement');
	return;
}

# ---- redis-benchmark: its own commands, where they are about numbers

sub test_benchmark {
	return unless has('redis-benchmark');
	for my $pipeline (1, 64) {
		my ($status, $said) = run('redis-benchmark', '-h', $host, '-p', $port, '-c', 20, '-n', REQUESTS, '-P', $pipeline, '-r', 100, '--csv', 'INCRBY', 'bench:__rand_int__', 1);
		is($status, 0, "redis-benchmark -P $pipeline runs");
		like($said, qr/^"INCRBY[^"]*","[\d.]+"/m, '... to its end');
	}
	my $redis = Redis->new($tallyd->address(1));
	my ($sum, $cursor) = (0, 0);
	do {
		my $found = $redis->ask('SCAN', $cursor, 'MATCH', 'bench:*', 'COUNT', 200);
		$cursor = $found->[0];
		$sum += $redis->ask('GET', $_) for @{ $found->[1] };
	} while $cursor ne '0';
	cmp_ok($sum, '>=', 2 * REQUESTS, 'all that it was told is there');
	my ($status, $said) = run('redis-benchmark', '-h', $host, '-p', $port, '-c', 20, '-n', 1000, '-q', '-t', 'ping_inline,ping_mbulk,incr,get');
	is($status, 0, 'its own tests run') or diag($said);
	unlike($said, qr/error/i, '... without an error');
	return;
}

# ---- libraries

sub test_hiredis {
	my $cc = $ENV{CC} || (has('cc') ? 'cc' : 'gcc');
	my ($status, $said) = run($cc, '-o', "$dir/hiredis", source_dir() . '/t/redis-hiredis.c', '-lhiredis');
	if ($status != 0) {
		diag("hiredis cannot be used here (Debian: libhiredis-dev): $said") if $said !~ /hiredis\.h/;
		return;
	}
	says('hiredis', <<'SAID', "$dir/hiredis");
PONG
OK
int(42)
[42 nil]
ERR value is not an integer or out of range
OK
QUEUED
QUEUED
QUEUED
[int(40) int(2) 40]
int(2)
SAID
	return;
}

sub test_python {
	# Debian's, which has Debian's modules.
	my ($python) = grep { -x && (run($_, '-c', 'import redis'))[0] == 0 } '/usr/bin/python3', map { "$_/python3" } split /:/, $ENV{PATH};
	return unless $python;
	says('python3-redis', <<'SAID', $python, source_dir() . '/t/redis-python.py');
True
True 40 None
41 46 42
['42', None] 1 string -1
None True 1
value is not an integer or out of range
[40, 2, '40']
[True]
watched
True
50
{'appendonly': 'yes'} 7.0.15 py
['account', 'py:a', 'balance', 86]
53
SAID
	return;
}

# From npm's registry: each package as it was pinned, by its digest.
my @PACKAGES = (
	['ioredis', IOREDIS], ['@ioredis/commands', '1.2.0'], ['cluster-key-slot', '1.1.2'], ['debug', '4.3.4'], ['ms', '2.1.2'], ['denque', '2.1.0'],
	['lodash.defaults', '4.2.0'], ['lodash.isarguments', '3.1.0'], ['redis-errors', '1.2.0'], ['redis-parser', '3.0.0'], ['standard-as-callback', '2.1.0'],
);

sub test_node {
	return unless has('node') && has('curl');
	for my $package (@PACKAGES) {
		my ($name, $version) = @$package;
		my $file = $name =~ s{.*/}{}r;
		my $place = "$dir/node_modules/$name";
		my ($status, $said) = run('sh', '-c', "mkdir -p '$place' && curl -sSf --max-time 20 'https://registry.npmjs.org/$name/-/$file-$version.tgz' | tar -xz -C '$place' --strip-components=1");
		if ($status != 0) {
			diag("npm's registry cannot be reached from here: ioredis is not tried ($said)");
			return;
		}
	}
	says('ioredis', <<'SAID', 'node', source_dir() . '/t/redis-node.js', $dir);
PONG
OK 40 null
41 46 42
["42",null] 1 string
ERR value is not an integer or out of range
[[null,40],[null,2],[null,"40"]]
true
50
["account","js:a","balance",45]
3
SAID
	return;
}

test_cli;
test_benchmark;
test_hiredis;
test_python;
test_node;
is($tallyd->stop, 0, 'it stops');
done_testing;
