#!/usr/bin/perl
# tallyctl import: what stands in its lines is in the daemon afterwards, once, however often it is
# killed and run again, and whatever happens to the daemon meanwhile.  What is not is said.

use strict;
use warnings;

use File::Temp qw(tempdir);
use FindBin;
use lib "$FindBin::RealBin/lib";
use Ctl qw(ctl ctl_json go_on is_error stop_all tallyctl);
use IO::Socket::INET;
use POSIX qw(strftime);
use Tallyd qw(free_port patience slurp wait_until);
use Test::More;
use Time::HiRes qw(sleep time);

my $dir = tempdir(CLEANUP => 1);
my $tallyd = Tallyd->start(
	config => { workers => 2, max_ids => 500_000, max_accounts => 200_000, respawn_backoff => 0,
		ring_size => '8M', journal_segment => '16M' },
	listen => [['127.0.0.1:0', { protocol => 'http' }], ['unix:%DIR%/socket', { protocol => 'http' }]]);
my @here = ('-c', $tallyd->config_file);

my $files = 0;
sub file {
	my (@lines) = @_;
	my $name = "$dir/" . $files++;
	open my $file, '>', $name or die $!;
	print {$file} map { "$_\n" } @lines;
	close $file or die $!;
	return $name;
}
sub import_file { return ctl_json(@here, 'import', @_) }
sub counts { my ($json) = @_; return join ' ', @$json{qw(status lines accepted duplicate)} }

# ---- events

my @events = map { qq({"account":"e@{[$_ % 10]}","amount":$_,"id":"ev-$_"}) } 1 .. 2500;
my ($status, $json, $err) = import_file(file(@events));
is($status, 0, 'events are imported') or diag $err;
is(counts($json), 'ok 2500 2500 0', 'all of them');
is($err, '', 'without a word, and without a bar where there is no terminal');
my $e3 = $tallyd->balance('e3');
is($e3, 3 * 250 + 10 * (249 * 250 / 2), 'into their accounts');
($status, $json) = import_file(file(@events));
is("$status " . counts($json), '0 ok 2500 0 2500', 'a second time they are there already');
is($tallyd->balance('e3'), $e3, 'and nothing changes');
($status, $json) = ctl_json('import', '-u', 'unix:' . $tallyd->dir . '/socket', file(@events[0 .. 4], @events[2, 3]));
is("$status " . counts($json), '0 ok 7 0 7', 'through a socket of the file system, too');
($status, $json) = import_file(file('{"account":"twice","amount":1,"id":"tw"}', '', '{"account":"twice","amount":1,"id":"tw"}'));
is("$status " . counts($json), '0 ok 3 1 1', 'an id that comes twice is one event; an empty line is none');

my @plain = map { qq({"account":"plain","amount":1}) } 1 .. 1500;
is_error([@here, 'import', file($events[0], '{"account":"never","amount":1,"id":"never"}', @plain)], 2, 'usage',
	qr/line 3 has no id: .*--batch NAME.*--no-resume/, 'lines without ids');
is($tallyd->balance('never'), undef, 'nothing was sent');
($status, $json) = import_file('-b', 'may', file(@plain));
is("$status " . counts($json), '0 ok 1500 1500 0', 'with a batch');
($status, $json) = import_file('-b', 'may', file(@plain));
is("$status " . counts($json), '0 ok 1500 0 1500', 'they are known again');
is($tallyd->balance('plain'), 1500, 'so they count once');
($status, $json) = import_file('--no-resume', file(@plain));
is("$status " . counts($json), '0 ok 1500 1500 0', 'with --no-resume');
is($tallyd->balance('plain'), 3000, 'twice');
my $said = `printf '{"account":"in","amount":7,"id":"in"}' | '@{[tallyctl()]}' -c '@{[$tallyd->config_file]}' import`;
like($said, qr/^lines +1\naccepted +1\nduplicate +0\n\z/, 'from standard input, to people, without a last line\'s end');

($status, $json, $err) = import_file(file("\r", $events[0], "\r", "\r", $events[1] . "\r", '', "\r"));
is("$status " . counts($json), '0 ok 7 0 2', 'with ends of lines from elsewhere a line may be empty, too') or diag $err;
for my $nothing (file(), file('', "\r")) {
	($status, $json, $err) = import_file($nothing);
	is($status, 0, 'an input without lines is imported');
	is($err, "tallyctl: nothing was imported: the input is empty\n", 'and said to be that');
}

# ---- what is refused

$tallyd->call(PUT => '/accounts/poor', { floor => 0 });
my @mixed = ('{"account":"good","amount":1,"id":"g1"}', '{"account":"poor","amount":-1,"id":"p1"}',
	'{"account":', '{"type":"transfr","account":"x"}', '{"account":"x","amount":1,"id":"l","note":"' . 'x' x 5000 . '"}',
	'{"from":"a","to":"b","amount":1,"id":"t"}', '{"account":"good","amount":1,"id":"g2"}');
($status, $json, $err) = import_file(file(@mixed));
is($status, 1, 'a line that is not JSON stops it');
like($err, qr/^tallyctl: line 3: invalid_json: /m, 'it is named');
is($tallyd->balance('good'), 1, 'what stands before it is done, what stands after is not');
is("$json->{status} $json->{reason}", 'error failed', 'with --json as well');
($status, $json, $err) = import_file('-k', '-r', "$dir/rejects", file(@mixed));
is($status, 1, 'with --keep-going it goes to the end, and says 1');
is(counts($json), 'error 7 1 1', 'the good ones are there');
is_deeply($json->{rejected}, { insufficient_funds => 1, invalid_json => 1, unknown_type => 1, line_too_long => 1, unknown_key => 1 },
	'the others are counted by reason');
is_deeply([sort split /\n/, slurp("$dir/rejects")], [sort @mixed[1, 2, 3, 5]], 'and written to the file');
like($err, qr/^tallyctl: line $_: /m, "line $_ is said") for 2 .. 6;
($status, $json, $err) = import_file('-k', file(('[]') x 25, qq({"account":"after","amount":1,"id":"af"}), '{}'));
is_deeply([$status, $json->{rejected}, $json->{accepted}], [1, { not_an_object => 25, missing_account => 1 }, 1], 'many bad lines');
is(scalar(() = $err =~ /^tallyctl: line /mg), 20, 'of which the first are said');
like($err, qr/^tallyctl: more lines that are refused are only counted$/m, 'and that they are not all');
is_error([@here, 'import', '-r', "$dir/none/r", file(@events)], 1, 'failed', qr{none/r: No such file}, 'no place for the rejects');
is_error([@here, 'import', "$dir/none"], 1, 'failed', qr/none: No such file/, 'no file');
is_error(['import', '-u', 'http://127.0.0.1:' . free_port(), file(@events)], 3, 'not_running', qr/cannot connect to .*refused/, 'no daemon');
is_error(['-d', $dir, 'import', file(@events)], 2, 'usage', qr/name its URL with -u/, 'a directory without a configuration');
is_error([@here, 'import', '-u', 'ftp://x', file(@events)], 2, 'usage', qr/-u: .*not a URL/, 'another URL');
is_error([@here, 'import', '-b', 'a b', file(@events)], 2, 'usage', qr/-b: a name of/, 'a batch with a blank');

# What is read is not written over, by no name of it.
my $precious = file(@mixed);
link $precious, "$dir/linked" or die $!;
my $read = slurp($precious);
is_error([@here, 'import', '-k', '-r', $_, $precious], 2, 'usage', qr/-r: \Q$_\E is the input/, 'the input for the rejects')
	for $precious, "$dir/linked";
like(`'@{[tallyctl()]}' -c '@{[$tallyd->config_file]}' import -k -r '$precious' <'$precious' 2>&1`, qr/-r: .* is the input/,
	'on standard input, too');
is(slurp($precious), $read, 'it is as it was');
my $old = file('of last time');
is((ctl('import', '-u', 'http://127.0.0.1:' . free_port(), '-k', '-r', $old, $precious))[0], 3, 'no daemon is reached');
is(slurp($old), "of last time\n", 'the rejects of last time stay');
is((ctl(@here, 'import', '-r', $old, file($events[0])))[0], 0, 'one is, and refuses nothing');
is(slurp($old), '', 'they are gone');

# ---- an export

my $soon = strftime '%Y-%m-%dT%H:%M:%S.000000Z', gmtime time + 600;
my $past = '2020-01-01T00:00:00.000000Z';
my $long = 'a long name, of which no id can be made as it is: ' . "\xc3\xa4" x 20;
sub account {
	my ($name, $balance, $held, $floor, $ceiling, $frozen) = @_;
	$_ = defined $_ ? $_ : 'null' for $floor, $ceiling;
	$frozen ||= 'none';
	return qq({"type":"account","account":"$name","balance":$balance,"held":$held,"available":null,"floor":$floor,"ceiling":$ceiling,"frozen":"$frozen","version":9,"created":"$past","updated":"$past"});
}
sub hold {
	my ($id, $account, $amount, $expires, $state) = @_;
	return qq({"type":"hold","hold":"$id","state":"@{[$state || 'open']}","account":"$account","amount":$amount,"captured":0,"expires":"$expires","placed":"$past","settled":null,"lsn":"5"});
}
my @accounts = (account('x-plain', 100, 0), account('x-debt', -50, 0, -60), account('x-below', -50, 0, 0),
	account('x-above', 500, 0, undef, 10), account('x-frozen', 7, 3, 0, undef, 'all'), account('x-zero', 0, 0, 0),
	account('x-held', 30, 30, 10), account($long, 5, 0), account('x-loose', 20, 9, 0));
my @holds = (hold('h1', 'x-frozen', 3, $soon), hold('h2', 'x-held', 20, $soon), hold('h3', 'x-held', 10, $soon),
	hold('h4', 'x-loose', 4, $past), hold('h5', 'x-loose', 5, $soon), hold('h6', 'x-loose', 5, $soon, 'captured'));
sub export {
	my ($key, $accounts, $holds) = @_;
	return (qq({"type":"export","format":1,"journal":"$key","lsn":4711,"time":"$past"}), @$accounts, @$holds,
		qq({"type":"id","id":"old","lsn":12,"time":"$past","outcome":"accepted"}),
		sprintf '{"type":"end","accounts":%d,"holds":%d,"ids":1}', scalar @$accounts, scalar @$holds);
}
sub state_of {
	return join "\n", map {
		utf8::decode(my $text = $_);
		my $path = $_ =~ s/([^A-Za-z0-9])/sprintf '%%%02X', ord $1/ger;
		my $answer = $tallyd->call(GET => "/accounts/$path");
		my $is = $answer->{json};
		join ' ', map { defined $_ ? $_ : 'null' } @$is{qw(balance held floor ceiling frozen)};
	} @_;
}
my @names = ('x-plain', 'x-debt', 'x-below', 'x-above', 'x-frozen', 'x-zero', 'x-held', $long, 'x-loose');
my $wanted = join "\n", '100 0 null null none', '-50 0 -60 null none', '-50 0 0 null none', '500 0 null 10 none',
	'7 3 0 null all', '0 0 0 null none', '30 30 10 null none', '5 0 null null none', '20 5 0 null none';
my @whole = export('00c0ffee', \@accounts, \@holds);

# Cut off: said, and the same again as a whole.
($status, $json, $err) = import_file(file(@whole[0 .. 10]));
is($status, 1, 'an export that is cut off');
like($err, qr/the export is cut: its last line is missing/, 'is said to be');
is($json->{without_limits}, 2, 'accounts that wait for their holds are counted');
($status, $json) = import_file(file(@whole));
is($status, 0, 'the whole afterwards') or diag explain $json;
is(state_of(@names), $wanted, 'every account is as it was');
is("@$json{qw(expired_holds ids_skipped without_limits)}", '2 1 0', 'what has expired, and ids, are passed over');
is($tallyd->call(GET => '/holds/h3')->{json}{amount}, 10, 'holds have the ids that they had');
sleep 1.1; # so that a hold has less time left than the first time
($status, $json) = import_file(file(@whole));
is($status, 0, 'again') or diag explain $json;
is("$json->{accepted} $json->{duplicate}", '0 13', 'everything is there already');
is(state_of(@names), $wanted, 'and as it was');
is($tallyd->call(POST => '/holds/h3/capture', {})->{status}, 200, 'a hold is captured by its id');
($status, $json) = import_file(file(export('00c0ffee', [account('x-plain', 100, 0)], [hold('h1', 'x-plain', 3, $soon)])));
is_deeply([$status, $json->{rejected}], [1, { id_reused => 1 }], 'an id that is another hold\'s is refused');
($status, $json) = import_file(file(export('abcd', [account('x-plain', 1, 0)], [])));
is_deeply([$status, $json->{rejected}], [1, { account_exists => 1 }], 'an account of another export is refused');
my $untouched = state_of('x-plain', 'x-loose');
($status, $json) = import_file(file(export('abcd', [map { account($_, 1, 0) } 'x-plain', 'x-mine', 'x-loose'],
	[hold('of-plain', 'x-plain', 1, $soon), hold('of-mine', 'x-mine', 1, $soon), hold('of-loose', 'x-loose', 1, $soon)])));
is_deeply([$status, $json->{rejected}], [1, { account_exists => 2, account_refused => 2 }], '... and so are its holds');
is(state_of('x-plain', 'x-loose'), $untouched, '... which are on no account of somebody else');
is(state_of('x-mine'), '1 1 null null none', '... but on those of this one');
is($tallyd->balance('x-plain'), 100, 'and not added to');
# The longest names that there are, of characters that are two in JSON.
my ($quotes, $id) = ('\\"' x 100, '\\"' x 128);
my $widest = file(export('1dea', [account($quotes, 10, 10)], [hold($id, $quotes, 9, $soon), hold("h$quotes", $quotes, 1, $soon)]));
is(counts((import_file($widest))[1]), 'ok 6 3 0', 'the longest names');
sleep 1.1;
($status, $json, $err) = import_file($widest);
is(counts($json), 'ok 6 0 3', 'are recognised') or diag $err;
my @short = export('beef', [account('y1', 1, 0), account('y2', 1, 0)], []);
splice @short, 2, 1;
($status, $json, $err) = import_file(file(@short));
is($status, 1, 'lines that are missing in the middle');
like($err, qr/counts others than were read/, 'are noticed');
($status, $json, $err) = import_file(file(@whole[1 .. 3]));
like($err, qr/line 1: unknown_type: an export begins/, 'one without its beginning');

# ---- killed, and again

sub begin {
	my (@command) = @_;
	my $pid = fork;
	if ($pid == 0) {
		open STDOUT, '>', "$dir/out" and open STDERR, '>', "$dir/err" or POSIX::_exit(126);
		exec tallyctl(), '--json', @command or POSIX::_exit(127);
	}
	return $pid;
}
sub finish {
	my ($pid) = @_;
	waitpid $pid, 0;
	return ($? >> 8, JSON::PP->new->decode(slurp("$dir/out") || '{}'), slurp("$dir/err"));
}
sub many { my ($account, $count) = @_; return file(map { qq({"account":"$account","amount":1,"id":"$account-$_"}) } 1 .. $count) }
sub some { my ($account, $least) = @_; return wait_until { ($tallyd->balance($account) || 0) >= $least } }

my $killed = many('killed', 60_000);
my $pid = begin(@here, 'import', $killed);
ok(some('killed', 3000), 'an import is under way');
kill KILL => $pid;
waitpid $pid, 0;
my $before = $tallyd->balance('killed');
cmp_ok($before, '<', 60_000, 'and is killed');
($status, $json) = import_file($killed);
is($status, 0, 'it is run again');
is($tallyd->balance('killed'), 60_000, 'every line counts once');
cmp_ok($json->{duplicate}, '>=', $before, 'those of the first time are duplicates');
is($json->{duplicate} + $json->{accepted}, 60_000, 'the others are accepted');

$pid = begin(@here, 'import', many('worker', 60_000));
ok(some('worker', 2000), 'a worker');
kill KILL => map { $_->{pid} } $tallyd->children('worker');
($status, $json, $err) = finish($pid);
is($status, 0, 'is killed under it') or diag $err;
is($tallyd->balance('worker'), 60_000, 'nothing is lost, nothing doubled');
is(counts($json), 'ok 60000 60000 0', 'and all are counted as new');
cmp_ok($json->{reconnects}, '>', 0, 'it connected again');

$pid = begin(@here, 'import', many('daemon', 60_000));
ok(some('daemon', 2000), 'the daemon');
$tallyd->kill9;
$tallyd->start_again;
($status, $json, $err) = finish($pid);
is($status, 0, 'is killed and started under it') or diag $err;
is($tallyd->balance('daemon'), 60_000, 'nothing is lost, nothing doubled');

my $once = file(map { '{"account":"once","amount":1}' } 1 .. 60_000);
$pid = begin(@here, 'import', '--no-resume', $once);
ok(some('once', 2000), 'lines without ids');
kill KILL => map { $_->{pid} } $tallyd->children('worker');
($status, $json, $err) = finish($pid);
is($status, 1, 'of which answers are lost');
cmp_ok($json->{unknown}, '>', 0, 'are counted');
is($json->{accepted} + $json->{unknown}, 60_000, 'all of them');
cmp_ok($tallyd->balance('once'), '>=', $json->{accepted}, 'what is accepted is there');
cmp_ok($tallyd->balance('once'), '<=', 60_000, 'and none was sent twice');

# Nobody answers: patience ends.
my @workers = map { $_->{pid} } $tallyd->children('worker');
stop_all(@workers);
is_deeply([(ctl_json(@here, 'import', '-p', 0.5, file(@events)))[0]], [7], 'a daemon that does not answer is waited for, not for ever');
($status, $json, $err) = import_file('-p', 0.5, file(@events[0, 1], '{"account":'));
is("$status $json->{reason}", '7 timed_out', 'that is what is said, also where a bad line follows');
unlike($err, qr/is imported/, 'and nothing of what was not answered');
go_on(@workers);

# What is no tallyd, but says 200 to whatever it is asked.
for my $case ([file(@events[0 .. 4]), 'application/x-ndjson', "{}\n" x 5], [file(@whole), 'application/json', '{"status":"ok"}'],
	[file(@whole), 'text/html', '<html></html>'])
{
	my ($input, $type, $body) = @$case;
	my $other = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1') or die $!;
	my $pid = fork;
	if ($pid == 0) {
		alarm 20 * patience();
		while (my $client = $other->accept) {
			sysread $client, my $request, 65536;
			syswrite $client, "HTTP/1.1 200 OK\r\nContent-Type: $type\r\nContent-Length: @{[length $body]}\r\n\r\n$body";
		}
	}
	($status, $json, $err) = ctl_json('import', '-p', 5, '-u', 'http://127.0.0.1:' . $other->sockport, $input);
	is("$status $json->{status} $json->{accepted}", '1 error 0', "a server that answers $type is not believed");
	like($err, qr/the answer is not tallyd's/, 'which is said');
	kill KILL => $pid;
	waitpid $pid, 0;
}

# A server that cuts its answers short: what was answered is not sent again, the rest in its order.
my $server = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1') or die $!;
my @five = map { qq({"account":"cut","amount":1,"id":"c$_"}) } 1 .. 5;
my $good = sub { return qq({"status":"accepted","account":"cut","balance":1,"version":1,"lsn":"$_[0]"}) };
my @script = (
	[[@five], [$good->(10), $good->(11)]],
	[[@five[2 .. 4]], ['{"status":"rejected","reason":"account_frozen"}', '{"status":"error","reason":"queue_full"}', $good->(12)]],
	[[@five[3, 4]], [$good->(13), $good->(12)]],
);
my $cutter = fork;
if ($cutter == 0) {
	alarm 20 * patience();
	close $server->accept for 1, 2; # whether it is there, and how far its journal is
	my $right = 1;
	for my $part (@script) {
		my ($wanted, $answers) = @$part;
		my $client = $server->accept;
		close $server->accept if $part == $script[0]; # how many ids it remembers
		my $request = '';
		my $body = join '', map { "$_\n" } @$wanted;
		1 while $request !~ /\r\n\r\n(?:[^\n]*\n){@{[scalar @$wanted]}}\z/ && sysread $client, $request, 65536, length $request;
		$right &&= $request =~ /\r\n\r\n\Q$body\E\z/ && $request =~ /Content-Length: @{[length $body]}\r\n/;
		my $lines = join '', map { "$_\n" } @$answers;
		syswrite $client, "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
			. sprintf("%x\r\n%s\r\n", length $lines, $lines) . ($part == $script[-1] ? "0\r\n\r\n" : '');
		close $client;
	}
	POSIX::_exit($right ? 0 : 1);
}
($status, $json, $err) = ctl_json('import', '-u', 'http://127.0.0.1:' . $server->sockport, file(@five));
waitpid $cutter, 0;
is($?, 0, 'after an answer that is cut the rest is sent, and a full queue makes it come again');
is($status, 1, 'a line is refused');
like($err, qr/^tallyctl: line 3: account_frozen/m, 'that one');
is_deeply([@$json{qw(accepted duplicate rejected reconnects)}], [4, 0, { account_frozen => 1 }, 2], 'the others are new, whenever they were answered');
close $server;

# ---- the bar

SKIP: {
	skip 'there is no script(1) here', 3 unless grep { -x "$_/script" } split /:/, $ENV{PATH};
	stop_all(map { $_->{pid} } $tallyd->children('journal'));
	my $bar = many('bar', 20_000);
	my $shell = fork;
	if ($shell == 0) {
		open STDIN, '<', '/dev/null';
		open STDOUT, '>', "$dir/screen";
		exec 'script', '-qfec', "'@{[tallyctl()]}' -c '@{[$tallyd->config_file]}' import '$bar'", '/dev/null' or POSIX::_exit(127);
	}
	my $drawn = wait_until { -e "$dir/screen" && slurp("$dir/screen") =~ /\r\033\[K\[#*\.+\] +\d+% [\d ]+ lines, \S+\/s/ };
	ok($drawn, 'on a terminal there is a bar');
	go_on(map { $_->{pid} } $tallyd->children('journal'));
	waitpid $shell, 0;
	is($?, 0, 'it is imported');
	like(slurp("$dir/screen"), qr/\r\033\[Klines +20 000\r\naccepted +20 000\r\n/, 'and the bar is gone at the end');
}

# ---- many, and a full queue

my $lots = file(map { qq({"account":"lots@{[$_ % 1000]}","amount":1,"id":"lots-$_"}) } 1 .. 200_000);
my $began = time;
($status, $json) = import_file($lots);
is(counts($json), 'ok 200000 200000 0', '200000 lines');
my $seconds = time - $began;
cmp_ok($seconds, '<', 15 * patience(), sprintf 'in %.1f s', $seconds);
is($tallyd->stop, 0, 'the daemon stops');

$tallyd = Tallyd->start(config => { workers => 1, queue_events => 64, ring_size => '64k', journal_segment => '16M', max_ids => 100_000 });
@here = ('-c', $tallyd->config_file);
my @fill = map { account("full$_", $_, 0) } 1 .. 3000;
($status, $json, $err) = import_file(file(export('f011', \@fill, [])));
is($status, 0, 'with a queue that is full all the time') or diag $err;
is($json->{accepted}, 3000, 'all accounts are made');
is(join(' ', map { $tallyd->balance("full$_") } 1, 1500, 3000), '1 1500 3000', 'with their balances');

# What export really writes, of a daemon with all of it, into another one.
$tallyd->call(PUT => '/accounts/full7', { floor => 10, frozen => 'all' });
$tallyd->call(POST => '/holds', { account => 'full9', amount => 4, ttl => 600, id => 'real' });
my $export = "$dir/export";
is(system("'@{[tallyctl()]}' -d '@{[$tallyd->data_dir]}' export >'$export' 2>'$dir/err'"), 0, 'a real export') or diag slurp("$dir/err");
my @real = ('full7', 'full9', 'full3000');
my $there = state_of(@real);
is($tallyd->stop, 0, 'it stops');
$tallyd = Tallyd->start(config => { max_ids => 100_000, ring_size => '8M', journal_segment => '16M' });
@here = ('-c', $tallyd->config_file);
for my $time ('once', 'twice') {
	($status, $json, $err) = import_file($export);
	is($status, 0, "is imported $time") or diag $err;
	is(state_of(@real), $there, 'and accounts are as they were');
	is($tallyd->call(GET => '/holds/real')->{json}{amount}, 4, 'with their holds');
}
is($json->{accepted}, 0, 'the second time nothing is new');
is($tallyd->stop, 0, 'it stops');

# ---- ids that are forgotten: accounts do not rest on them

$tallyd = Tallyd->start(config => { max_ids => 1000, ring_size => '8M', journal_segment => '16M' });
@here = ('-c', $tallyd->config_file);
my $forgotten = 0;
sub forget {
	for (1 .. 3) {
		$forgotten++;
		$tallyd->call(POST => '/events', [map { { account => 'noise', amount => 1, id => "noise-$forgotten-$_" } } 1 .. 1000]);
	}
	return;
}
my @crowd = map { account("crowd$_", $_, 0, $_ % 7 ? undef : $_ + 1, undef, $_ % 5 ? 'none' : 'all') } 1 .. 4000;
my $crowd = file(export('c0', \@crowd, []));
$pid = begin(@here, 'import', $crowd);
ok((wait_until { defined $tallyd->balance('crowd2000') }), 'an import with more ids than there is room for');
kill KILL => $pid;
waitpid $pid, 0;
isnt($tallyd->balance('crowd4000'), 4000, 'is killed');
sub wrong_ones { return join ' ', grep { my $is = $tallyd->balance("crowd$_"); !defined $is || $is != $_ } 1 .. 4000 }
for my $time ('again', 'and again') {
	($status, $json, $err) = import_file($crowd);
	is("$status $json->{status} @{[$json->{accepted} + $json->{duplicate}]}", '0 ok 4000', "it is run $time") or diag $err;
	is(substr(wrong_ones(), 0, 40), '', 'and every balance is there once');
}
is($json->{accepted}, 0, 'at last nothing is new');
is($tallyd->call(GET => '/accounts/crowd35')->{json}{frozen}, 'all', 'limits are there');
is($tallyd->call(GET => '/accounts/crowd35')->{json}{version}, 3, 'and were given once');

# What an import that was killed between its steps leaves, when ids are kept and when they are not.
sub created { my ($key, $name) = @_; return $tallyd->call(POST => '/accounts', { account => $name, id => "import:$key:4711:a:$name" })->{status} }
sub given { my ($key, $name, $amount) = @_; return $tallyd->call(POST => '/events', { account => $name, amount => $amount, id => "import:$key:4711:b:$name" }, { 'If-Match' => '"1"' })->{status} }
for my $key ('1de', '2de') {
	my @steps = (account("made$key", 5, 0), account("given$key", 6, 0, 9), account("used$key", 7, 0), account("between$key", 8, 0),
		account("empty$key", 0, 0), account("held$key", 10, 10, 5), account("anew$key", 9, 0), account("theirs$key", 1, 0));
	my $steps = file(export($key, \@steps, [hold("hold$key", "held$key", 10, $soon)]));
	is(created($key, "$_$key"), 201, "$_ is made") for qw(made given used between empty held anew);
	is(given($key, "given$key", 6), 200, 'one has its balance');
	is(given($key, "used$key", 7), 200, 'as has another');
	is($tallyd->call(POST => '/events', { account => "$_$key", amount => 1 })->{status}, 200, "somebody uses $_") for qw(used between empty);
	$tallyd->call(DELETE => "/accounts/anew$key");
	$tallyd->call(POST => '/accounts', { account => "$_$key" }) for qw(anew theirs);
	forget() if $key eq '2de';
	($status, $json, $err) = import_file($steps);
	is($status, 1, 'accounts that somebody else has used are left');
	is_deeply($json->{rejected}, { account_exists => 3 }, 'and refused') or diag $err;
	like($err, qr/line $_: account_exists/, "line $_") for 5, 8, 9;
	is(join(' ', map { $tallyd->balance("$_$key") } qw(made given used between empty held anew theirs)), '5 6 8 1 1 10 0 0',
		'the others have their balances, once');
	is($tallyd->call(GET => "/accounts/$_->[0]$key")->{json}{floor}, $_->[1], "$_->[0] has its limits") for ['given', 9], ['held', 5];
	# Limits that were changed later stay.
	$tallyd->call(PUT => "/accounts/$_$key", { floor => -3 }) for qw(given held);
	forget();
	($status, $json, $err) = import_file($steps);
	is("$json->{accepted} $json->{duplicate}", '0 6', 'again nothing is new') or diag $err;
	is($tallyd->call(GET => "/accounts/$_$key")->{json}{floor}, -3, "the later limits of $_ stay") for qw(given held);
	is(join(' ', map { $tallyd->balance("$_$key") } qw(made given used between empty held anew theirs)), '5 6 8 1 1 10 0 0',
		'and all balances');
}
# An account that has changed as often as is looked back, and once more.
my $deep = file(export('3de', [account('deep3de', 5, 0)], []));
created('3de', 'deep3de');
given('3de', 'deep3de', 5);
$tallyd->call(POST => '/events', [map { { account => 'deep3de', amount => 1 } } 1 .. 999]);
forget();
is_deeply([@{(import_file($deep))[1]}{qw(accepted duplicate)}], [0, 1], 'after 999 changes it is known');
$tallyd->call(POST => '/events', { account => 'deep3de', amount => 1 });
is_deeply((import_file($deep))[1]{rejected}, { account_exists => 1 }, 'after 1000 it is not');
is($tallyd->balance('deep3de'), 1005, 'and has nothing more');
is($tallyd->stop, 0, 'it stops');

# ---- ids that are forgotten: events do, and are not sent where that can be seen

$tallyd = Tallyd->start(config => { workers => 2, max_ids => 1000, ring_size => '8M', journal_segment => '16M' });
@here = ('-c', $tallyd->config_file);
sub piped {
	my ($input, @options) = @_;
	my $out = `cat '$input' | '@{[tallyctl()]}' --json -c '@{[$tallyd->config_file]}' import @options 2>'$dir/err'`;
	return ($? >> 8, JSON::PP->new->decode($out), slurp("$dir/err"));
}
my $few = many('few', 900);
for my $time (0, 1) {
	($status, $json, $err) = import_file($few);
	is("$status $err" . counts($json), '0 ' . ($time ? 'ok 900 0 900' : 'ok 900 900 0'), 'fewer lines than ids are remembered');
	($status, $json, $err) = piped($few);
	is("$status $err" . counts($json), '0 ok 900 0 900', 'from a pipe as well');
}
my $too_many = many('too', 3000);
my $unnamed = file(map { '{"user":"too","amount":1}' } 1 .. 1001);
is_error([@here, 'import', @$_], 2, 'usage', qr/remembers only 1000, .*count twice; raise max_ids, .*--once/, 'more of them')
	for [$too_many], ['-b', 'may-2026', $unnamed];
is($tallyd->balance('too'), undef, 'are not sent');
($status, $json, $err) = import_file('--no-resume', $unnamed);
is("$status $err" . counts($json), '0 ok 1001 1001 0', 'without ids they are, as before');
($status, $json, $err) = import_file('--once', $too_many);
is("$status $err" . counts($json), '0 ok 3000 3000 0', 'and where that is wanted');
($status, $json, $err) = piped(many('pipe', 3000));
is("$status " . counts($json), '1 error 3000 3000 0', 'of a pipe it is seen later');
like($err, qr/^tallyctl: line 1001: these are more lines than the daemon remembers ids \(1000\): do not repeat/m, 'when it happens');
like($err, qr/^tallyctl: the daemon has forgotten ids of these lines already: do not import them again/m, 'and at the end');
($status, $json, $err) = piped($too_many, '--once');
is("$status $err$json->{status}", '0 ok', 'unless that is wanted');
# Others take the room: what is older by a second or two makes it.
sleep 2.2;
my $rest = file(map { qq({"account":"rest","amount":1,"id":"rest-$_"}) } 1 .. 10);
import_file($rest);
open my $more, '>>', $rest or die $!;
print {$more} map { qq({"account":"rest","amount":1,"id":"rest-$_"}\n) } 11 .. 900;
close $more or die $!;
($status, $json, $err) = import_file($rest);
is("$status " . counts($json), '0 ok 900 890 10', 'an import that goes on where it ended');
is($err, "tallyctl: meanwhile the daemon has forgotten ids, perhaps of these lines: do not import them again\n", 'says what it cannot know');
is($tallyd->stop, 0, 'it stops');

done_testing();
