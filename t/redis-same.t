#!/usr/bin/perl
# The same commands, sent to a real redis-server and to tallyd, get the same replies: written ones for
# everything that has words of its own, and many at random, always the same.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Redis;
use Tallyd;
use Test::More;

use constant {
	SEQUENCES => 400,
	LONGEST   => 24,     # commands of one
	KEYS      => 5,
	SEED      => 20_261_127,
	HUGE      => '9223372036854775807',
	NEAR_HUGE => '9223372036854675807',
	LEAST     => '-9223372036854775808',
};

my $real = Redis->server;
if (!$real) {
	plan skip_all => 'there is no redis-server: install Debian\'s redis-server';
}
my $tallyd = Tallyd->start(listen => [['127.0.0.1:0', { protocol => 'http' }], ['127.0.0.1:0', { protocol => 'redis' }]]);
my @address = ($real->address, $tallyd->address(1));

# Sends SEQUENCE, of [CONNECTION, COMMAND, ...], to the server at ADDRESS, one after the other.  Returns
# what came back, a line each.
sub replies {
	my ($address, @sequence) = @_;
	my (@connection, @said);
	for my $step (@sequence) {
		my ($who, @command) = @$step;
		$connection[$who] ||= Redis->new($address);
		my $said = eval { Redis::show(ref $command[0] ? $connection[$who]->send_raw(${ $command[0] })->reply : $connection[$who]->ask(@command)) };
		# What they are called, and by which number a client is.
		push @said, defined $said ? $said =~ s/"id" int\(\d+\)/"id" int()/r =~ s/"tallyd"/"redis"/r : "died: $@";
	}
	return @said;
}

sub text { return join ' ', map { ref $_ ? "raw <$$_>" : "'$_'" } @_ }

# The same replies from both?
sub same {
	my ($name, @sequence) = @_;
	my ($wanted, $got) = map { [replies($_, @sequence)] } @address;
	my ($first) = grep { $wanted->[$_] ne $got->[$_] } 0 .. $#sequence;
	return pass($name) unless defined $first;
	fail($name);
	diag(join "\n", map { "$sequence[$_][0]: " . text(@{ $sequence[$_] }[1 .. $#{ $sequence[$_] }]) . " -> $wanted->[$_]" . ($wanted->[$_] eq $got->[$_] ? '' : "   BUT $got->[$_]") } 0 .. $first);
	return;
}

# One connection's.
sub all { my ($name, @commands) = @_; return same($name, map { [0, @$_] } @commands) }

# ---- written

sub raw { my ($bytes) = @_; return [\$bytes] }

all('strings that are numbers', ['GET', 'a'], ['SET', 'a', 1], ['GET', 'a'], ['SET', 'a', '-5'], ['GET', 'a'], ['SET', 'b', 0], ['GET', 'b'],
	['GETSET', 'a', 7], ['GETSET', 'fresh', 8], ['MGET', 'a', 'none', 'b', 'a', 'fresh'], ['EXISTS', 'a', 'a', 'none', 'b'], ['TYPE', 'a'], ['TYPE', 'none'],
	['TTL', 'a'], ['TTL', 'none'], ['DBSIZE'], ['DEL', 'a', 'none', 'b', 'a'], ['GET', 'a'], ['DBSIZE'], ['DEL', 'fresh'], ['DBSIZE']);
all('conditions of SET', ['SET', 'c', 1, 'XX'], ['GET', 'c'], ['SET', 'c', 2, 'NX'], ['SET', 'c', 3, 'nx'], ['SET', 'c', 4, 'xx'], ['GET', 'c'],
	['SET', 'c', 5, 'NX', 'XX'], ['SET', 'c', 5, 'XX', 'NX'], ['SET', 'c', 5, 'WHAT'], ['GET', 'c'], ['SET', 'c'], ['SET'], ['DEL', 'c']);
all('increments', ['INCR', 'i'], ['INCR', 'i'], ['DECR', 'i'], ['INCRBY', 'i', 40], ['DECRBY', 'i', 100], ['GET', 'i'], ['INCRBY', 'zero', 0], ['EXISTS', 'zero'],
	['DECRBY', 'zero', '-3'], map({ (['INCRBY', 'i', $_], ['DECRBY', 'i', $_]) } 'x', '', '1.5', '007', '+1', ' 1', '1 ', '-', '-0', '1e3', HUGE . '0', '99999999999999999999'), ['GET', 'i'],
	['DEL', 'i'], ['SET', 'i', HUGE], ['INCR', 'i'], ['INCRBY', 'i', 1], ['DECR', 'i'], ['INCR', 'i'], ['DECRBY', 'i', LEAST], ['DEL', 'i'], ['SET', 'i', LEAST], ['DECR', 'i'], ['GET', 'i'],
	['INCRBY', 'i', HUGE], ['DEL', 'i', 'zero'], ['INCR'], ['INCR', 'i', 1], ['INCRBY', 'i']);
all('transactions', ['MULTI'], ['SET', 't', 1], ['INCR', 't'], ['GET', 't'], ['MGET', 't', 'u'], ['EXISTS', 't', 'u'], ['GETSET', 't', 9], ['TYPE', 't'], ['TTL', 't'], ['PING'], ['PING', 'x'], ['ECHO', 'e'],
	['SET', 't', 1, 'NX'], ['SET', 'u', 0, 'NX'], ['INCRBY', 'w', 0], ['EXEC'], ['MGET', 't', 'u', 'w'], ['EXEC'], ['DISCARD'], ['MULTI'], ['MULTI'], ['WATCH', 't'], ['INCR', 't'], ['DISCARD'], ['GET', 't'],
	['MULTI'], ['EXEC'], ['MULTI'], ['NONSENSE', 't'], ['INCR', 't'], ['EXEC'], ['GET', 't'], ['MULTI'], ['GET'], ['EXEC'], ['MULTI'], ['INCRBY', 't', 'x'], ['INCR', 't'], ['EXEC'], ['GET', 't'],
	['MULTI'], ['SET', 't', HUGE], ['INCR', 't'], ['DECR', 't'], ['EXEC'], ['GET', 't'], ['DEL', 't', 'u', 'w']);
all('EXEC with more words', ['EXEC', 'x'], ['MULTI'], ['SET', 't', 1], ['EXEC', 'x'], ['EXEC'], ['GET', 't'], ['MULTI'], ['DISCARD', 'x'], ['EXEC']);
same('what is watched', [0, 'SET', 'x', 1], [0, 'WATCH', 'x', 'none', 'x'], [0, 'MULTI'], [0, 'INCR', 'x'], [0, 'EXEC'], [0, 'WATCH', 'x'], [1, 'INCR', 'x'], [0, 'MULTI'], [0, 'INCR', 'x'], [0, 'EXEC'], [0, 'GET', 'x'],
	[0, 'WATCH', 'none'], [1, 'SET', 'none', 0], [0, 'MULTI'], [0, 'EXEC'], [0, 'WATCH', 'x'], [1, 'INCR', 'x'], [0, 'UNWATCH'], [0, 'MULTI'], [0, 'GET', 'x'], [0, 'EXEC'],
	[0, 'WATCH', 'x'], [1, 'DEL', 'x'], [1, 'SET', 'x', 3], [0, 'MULTI'], [0, 'GET', 'x'], [0, 'EXEC'], [0, 'WATCH', 'x'], [1, 'INCR', 'x'], [0, 'MULTI'], [0, 'DISCARD'], [0, 'MULTI'], [0, 'GET', 'x'], [0, 'EXEC'],
	[0, 'WATCH', 'x'], [0, 'INCR', 'x'], [0, 'MULTI'], [0, 'GET', 'x'], [0, 'EXEC'], [0, 'WATCH'], [0, 'MULTI'], [0, 'UNWATCH'], [0, 'EXEC'], [0, 'DEL', 'x', 'none']);
all('the connection', ['PING'], ['ping', 'hello'], ['PING', 'a', 'b'], ['ECHO', "a\r\nb\0c"], ['ECHO'], ['SELECT', 0], ['SELECT', 1], ['SELECT', 'x'], ['AUTH', 'secret'], ['AUTH', 'default', 'secret'],
	['AUTH', 'other', 'secret'], ['AUTH', 'a', 'b', 'c'], ['CLIENT', 'GETNAME'], ['CLIENT', 'SETNAME', 'me'], ['CLIENT', 'GETNAME'], ['CLIENT', 'SETNAME', 'two words'], ['CLIENT', 'SETNAME', ''], ['CLIENT', 'GETNAME'],
	['CLIENT', 'NONSENSE'], ['CLIENT'], ['CLIENT', 'SETNAME'], ['CONFIG', 'GET', 'appendonly'], ['CONFIG', 'GET', 'save'], ['CONFIG', 'GET', 'APPENDonly'], ['CONFIG', 'GET', 'APPENDon*'], ['CONFIG', 'GET', 'appendonly', 'APPENDONLY'], ['CONFIG', 'GET', 'no-such'], ['CONFIG'], ['CONFIG', 'NONSENSE'], ['COMMAND', 'NONSENSE'], ['COMMAND', 'INFO', 'no-such'],
	['HELLO', 4], ['HELLO', 'x'], ['HELLO', 2, 'NONSENSE'], ['HELLO', 3, 'AUTH', 'who', 'what'], ['NONSENSE'], ['nonsense', 'a', 'b'], ["NON\0SENSE", "a\0b", 'c'], ['CLIENT', "NON\0SENSE"], ['NONSENSE', "a\r\nb", 'x' x 200, 'y'], ['X' x 200], ['GET'], ['QUIT'], ['PING']);
all('RESP3', ['GET', 'n'], ['MULTI'], ['GET', 'n'], ['EXEC'], ['WATCH', 'n'], raw("HELLO 3\r\n"));
for my $version (2, 3) {
	same("nulls and maps of RESP$version", [0, 'HELLO', $version, 'SETNAME', 'named'], [0, 'CLIENT', 'GETNAME'], [0, 'GET', 'n'], [0, 'MGET', 'n', 'm'], [0, 'CONFIG', 'GET', 'appendonly'], [0, 'WATCH', 'n'], [1, 'SET', 'n', 1],
		[0, 'MULTI'], [0, 'EXEC'], [0, 'SET', 'n', 1, 'NX'], [0, 'DEL', 'n'], [0, 'GETSET', 'n', 1], [0, 'DEL', 'n']) if $version == 2;
	next if $version == 2;
	same("nulls and maps of RESP$version", [0, 'CLIENT', 'GETNAME'], map { [0, @$_] } ['GET', 'n']);
}
all('lines', raw("PING\r\n"), raw("  SET  l   12 \r\n"), raw("GET l\n"), raw("GET \"l\"\r\n"), raw("ECHO \"a b\\x41\\n\\\"\"\r\n"), raw("ECHO 'a b\\'c'\r\n"), raw("ECHO a\"b\r\n"));
all('lines that are none', raw("\r\n\r\n*0\r\n*-1\r\nPING\r\n"), raw("ECHO \"a\"b\r\n"), raw("PING\r\n"));
for my $bytes ("*x\r\n", "*1\r\nPING\r\n", "*1\r\n\$x\r\n", "*1\r\n\$-1\r\n", "*2\r\n\$4\r\nECHO\r\n\$99999999999\r\n") {
	all('no command: ' . $bytes =~ s/\r\n/ /gr, raw($bytes), raw("PING\r\n"));
}

# Maps have no order, and what is there has other values: compared by what clients read of them.
for my $address (@address) {
	my $redis = Redis->new($address);
	my $hello = $redis->ask('HELLO', 3);
	my %hello = @{ $hello->{map} };
	is(join(' ', sort keys %hello), 'id mode modules proto role server version', "HELLO of $address");
	is($hello{proto}{int}, 3, '  speaks RESP3');
	is(Redis::show($redis->ask('GET', 'nothing')), 'nil', '  from then on');
	is($hello{version}, '7.0.15', '  of a version whose words are compared') if $address eq $address[1];
	like($redis->ask('INFO'), qr/^redis_version:\d.*^loading:0\r\n.*^role:master\r\n/ms, '  INFO has what clients look for');
	like($redis->ask('COMMAND', 'COUNT')->{int}, qr/^\d+$/, '  COMMAND COUNT counts');
	my $get = $redis->ask('COMMAND', 'INFO', 'GET')->[0];
	is(join(' ', $get->[0], map { $get->[$_]{int} } 1, 3, 4, 5), 'get 2 1 1 1', '  COMMAND INFO tells where the keys are');
}

# ---- SCAN: the same keys, in whichever order

sub scanned {
	my ($redis, @options) = @_;
	my ($cursor, @found, $rounds) = (0);
	do {
		my $reply = $redis->ask('SCAN', $cursor, @options);
		return Redis::show($reply) if ref $reply ne 'ARRAY';
		$cursor = $reply->[0];
		push @found, @{ $reply->[1] };
	} while ($cursor ne '0' && ++$rounds < 1000);
	my %once = map { $_ => 1 } @found;
	return join ' ', sort keys %once;
}

my @keys = ((map { "scan:$_" } 1 .. 150), 'scan:', 'scan[1]', 'scan*', 'scan\\', "sc\xc3\xa4n", 'Scan:1', 'scan-a', 'scan-b', 'scan-z', 'scanx');
for my $address (@address) {
	my $redis = Redis->new($address);
	$redis->send_commands(map { ['SET', $_, 1] } @keys);
	$redis->reply for @keys;
}
for my $options ([], ['COUNT', 7], ['MATCH', 'scan:*'], ['MATCH', 'scan:?'], ['MATCH', 'scan:[0-3]5', 'COUNT', 1000], ['MATCH', 'scan:[^1]?'], ['MATCH', '*1*5*'], ['MATCH', 'scan\\*'], ['MATCH', 'scan\\\\'], ['MATCH', 'scan\\[1\\]'],
	['MATCH', 'scan[1]'], ['MATCH', 'scan[[]1]'], ['MATCH', '*'], ['MATCH', '**'], ['MATCH', ''], ['MATCH', 'none'], ['MATCH', 'scan-[b-a]'], ['MATCH', 'scan-[a'], ['MATCH', 'scan-[ab'], ['MATCH', 'scan-[\\a-b]'], ['MATCH', '?can[\\--x]*'], ['MATCH', "sc\xc3*"], ['MATCH', 'sc??n'],
	['COUNT', 0], ['COUNT', 'x'], ['COUNT'], ['WHAT', 1], ['TYPE', 'string'], ['TYPE', 'hash'], ['MATCH', 'scan:1*', 'TYPE', 'string', 'COUNT', 3]) {
	my ($wanted, $got) = map { scanned(Redis->new($_), @$options) } @address;
	is($got, $wanted, 'SCAN ' . join ' ', @$options);
}
all('cursors', ['SCAN', 'x'], ['SCAN', '-1x'], ['SCAN']);
all('and away with them', ['DEL', @keys], ['DBSIZE']);

# ---- at random

srand SEED;

sub any { return $_[int rand @_] }

my $prefix;
sub key { return "$prefix:" . int rand KEYS }

sub amount { return any(0, 1, 2, 5, '-1', '-7', 100, HUGE, 'x', '1.0', int rand 1000) }

my @SINGLE = (
	(sub { ['INCR', key()] }) x 3, (sub { ['DECR', key()] }) x 2, (sub { ['INCRBY', key(), amount()] }) x 4, (sub { ['DECRBY', key(), any(0, 1, '-3', 17, 'y', LEAST)] }) x 2,
	(sub { ['GET', key()] }) x 3, sub { ['MGET', map { key() } 1 .. 1 + rand 6] }, (sub { ['SET', key(), any(0, 1, 5, 1000, NEAR_HUGE)] }) x 2, sub { ['SET', key(), any(0, 3), any('NX', 'XX', 'nx', 'QQ')] },
	sub { ['GETSET', key(), any(0, 12, 99)] }, sub { ['EXISTS', map { key() } 1 .. 1 + rand 3] }, sub { ['TYPE', key()] }, sub { ['TTL', key()] }, sub { ['DBSIZE'] }, sub { any(['PING'], ['ECHO', 'hi'], ['NOPE', 'x'], ['GET'], ['INCR', 'a', 'b']) },
);
my @ALONE = (@SINGLE, (sub { ['DEL', map { key() } 1 .. 1 + rand 2] }) x 2, sub { ['WATCH', key()] }, sub { ['WATCH', key()] }, sub { ['UNWATCH'] }, sub { ['EXEC'] });

sub sequence {
	my (@sequence, %inside);
	for (1 .. 2 + rand LONGEST) {
		my $who = rand() < 0.7 ? 0 : 1;
		if (!$inside{$who} && rand() < 0.12) {
			push @sequence, [$who, 'MULTI'];
			$inside{$who} = 1;
		} elsif ($inside{$who} && rand() < 0.3) {
			push @sequence, [$who, rand() < 0.85 ? 'EXEC' : 'DISCARD'];
			$inside{$who} = 0;
		} else {
			push @sequence, [$who, @{ any($inside{$who} ? @SINGLE : @ALONE)->() }];
		}
	}
	return @sequence, map { [0, 'GET', "$prefix:$_"] } 0 .. KEYS - 1;
}

my $commands = 0;
for my $number (1 .. SEQUENCES) {
	$prefix = "r$number";
	my @sequence = sequence();
	$commands += @sequence;
	same("sequence $number", @sequence);
}
cmp_ok($commands, '>', 15 * SEQUENCES, "$commands commands");
is($tallyd->stop, 0, 'it stops');
done_testing;
