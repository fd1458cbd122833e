#!/usr/bin/perl
# tallyctl export: what the files say at one moment, as lines, whether the daemon runs or not.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Check;
use Ctl qw(ctl ctl_as_nobody ctl_json is_error is_number stop_all go_on tallyctl);
use File::Temp qw(tempdir);
use JSON::PP ();
use Mounts;
use POSIX ();
use Tallyd qw(build_dir send_all read_response slurp wait_until);
use Test::More;
use Time::HiRes qw(time sleep);

use constant {
	ACCOUNTS => 8,
	START    => 1000,
	TELLERS  => 2,
	LOOKS    => 12,      # exports while money moves
	MANY     => 5000,    # accounts, more than a small table takes
};

Mounts::enter();

my $dir = tempdir(CLEANUP => 1);
my $tallyd = use_daemon(Tallyd->start(config => { workers => 2, snapshot_every => '128K', respawn_backoff => 0 }));
my @data = ('-d', $tallyd->data_dir);

# The lines of an export, decoded.
sub exported {
	my ($status, $out, $err) = ctl(@data, 'export', @_);
	is($status, 0, "export @_") or diag($err);
	return map { JSON::PP->new->utf8->decode($_) } split /\n/, $out;
}

sub of { my ($type, @lines) = @_; return grep { $_->{type} eq $type } @lines }

sub plain { return JSON::PP->new->canonical->encode($_[0]) }

# ---- what it says

sub test_lines {
	gives(['PUT', '/accounts/zoe', { floor => -5, ceiling => 100, frozen => 'none' }], 201, {}, 'an account');
	gives(event('zoe', -3, id => 'e-1', note => 'a "note"'), 200, {}, 'an event');
	gives(event('x' x 100, 9), 200, {}, 'a long name');
	gives(event("\x{e4}\x{1f600}", 1), 200, {}, 'a name beyond ASCII');
	gives(event('adam', 50), 200, {}, 'another');
	gives(['POST', '/holds', { account => 'adam', amount => 7, ttl => 600, id => 'h-2' }], 201, {}, 'a hold');
	gives(['POST', '/holds', { account => 'adam', amount => 1, ttl => 600, id => 'h-1' }], 201, {}, 'another');
	gives(['POST', '/holds', { account => 'adam', amount => 1, ttl => 600, id => 'h-0' }], 201, {}, 'one');
	gives(['POST', '/holds/h-0/release', undef], 200, {}, 'that is settled');
	refused(event('zoe', -3, id => 'e-2'), 402, 'insufficient_funds', 'a refusal');
	gives(event('gone', 1), 200, {}, 'an account');
	gives(event('gone', -1), 200, {}, 'that is empty');
	gives(['DELETE', '/accounts/gone', undef], 200, {}, 'and deleted');
	my @lines = exported();
	is(join(' ', map { $_->{type} } @lines), 'export account account account account hold hold id id id id id', 'all kinds of lines, in order')
		unless $lines[-1]{type} eq 'end';
	is(join(' ', map { $_->{type} } @lines), 'export' . ' account' x 4 . ' hold' x 2 . ' id' x 5 . ' end', 'all kinds of lines, in order');
	is($lines[0]{format}, 1, 'the format has a number');
	like($lines[0]{journal}, qr/^[0-9a-f]{16}$/, 'the journal its key');
	is_deeply([@{ $lines[-1] }{qw(accounts holds ids)}], [4, 2, 5], 'the end says how much there was');
	is(join(' ', map { $_->{account} } of('account', @lines)), join(' ', sort { $a cmp $b } 'adam', 'x' x 100, 'zoe', "\x{e4}\x{1f600}"), 'accounts by name');
	for my $line (of('account', @lines)) {
		my $name = $line->{account} =~ s/([^ -~])/join '', map { sprintf '%%%02X', $_ } unpack 'C*', do { my $c = $1; utf8::encode($c); $c }/ger;
		my %said = %$line;
		delete $said{type};
		is(plain(\%said), plain($tallyd->call('GET', "/accounts/$name")->{json}), 'an account is told as by HTTP');
	}
	for my $line (of('hold', @lines)) {
		my %said = %$line;
		delete $said{type};
		is(plain(\%said), plain($tallyd->call('GET', "/holds/$line->{hold}")->{json}), 'so is a hold');
	}
	is(join(' ', map { "$_->{id}:$_->{outcome}" } of('id', @lines)), 'e-1:accepted h-2:accepted h-1:accepted h-0:accepted e-2:insufficient_funds', 'ids, with what became of them');
	is(join(' ', map { $_->{type} } exported('--holds')), 'export hold hold end', 'holds alone');
	is(join(' ', map { $_->{type} } exported('--ids', '--holds')), 'export' . ' hold' x 2 . ' id' x 5 . ' end', 'or two kinds');
	return @lines;
}

sub test_file {
	my ($status, $json) = ctl_json(@data, 'export', '-o', "$dir/file");
	is($status, 0, 'into a file');
	is_deeply([@{$json}{qw(status file accounts holds ids)}], ['done', "$dir/file", 4, 2, 5], 'as a document tells');
	is_number($json, 'lsn');
	is(slurp("$dir/file"), (ctl(@data, 'export'))[1], 'which has the same');
	like((ctl(@data, 'export', '-o', "$dir/file"))[1], qr/^\Q$dir\E\/file: up to position \d+: 4 accounts, 2 open holds, 5 ids$/, 'as people read it');
	is((stat "$dir/file")[2] & 0777, 0600, 'only its owner may read it');
	is_error([@data, 'export', '-o', "$dir/no/such/file"], 1, 'failed', qr/cannot write: No such file/, 'no folder');
	is(system("'@{[tallyctl()]}' @data export -o '$dir/quiet' <&- >&- 2>&-") >> 8, 1, 'with nobody to tell it');
	is(slurp("$dir/quiet"), slurp("$dir/file"), '... it has nothing else');
	symlink '/dev/null', "$dir/null" or die $!;
	is((ctl(@data, 'export', '-o', "$dir/null"))[0], 0, 'into a device');
	ok(-l "$dir/null" && -c "$dir/null", '... which is not replaced');
	mkdir "$dir/small";
	Mounts::tmpfs("$dir/small", '64k');
	open my $full, '>', "$dir/small/filler" or die $!;
	print {$full} 'x' x 65_536;
	close $full;
	is_error([@data, 'export', '-o', "$dir/small/export"], 1, 'failed', qr/cannot write: No space left/, 'no room');
	is(join(' ', map { s{.*/}{}r } glob "$dir/small/{.,}[a-z]*"), 'filler', '... and nothing is left');
	my ($code, $out, $err) = do { my $said = `'@{[tallyctl()]}' -d '@{[$tallyd->data_dir]}' export 2>&1 >/dev/full`; ($? >> 8, '', $said) };
	is($code, 1, 'nobody takes it');
	like($err, qr/standard output: cannot write/, '... is said');
	return;
}

# An export into a file, silent; its process.
sub start_export {
	my $pid = fork;
	die "cannot fork: $!" unless defined $pid;
	return $pid if $pid;
	open STDOUT, '>', '/dev/null';
	open STDERR, '>', '/dev/null';
	exec tallyctl(), @data, 'export', '-o', "$dir/whole/file" or POSIX::_exit(127);
}

# Interrupted at any time, a file is whole or not there, and nothing else is.
sub test_interrupted {
	for my $number (1 .. 12) {
		my $pid = start_export();
		sleep 0.004 * $number;
		kill(($number % 2 ? 'INT' : 'TERM') => $pid);
		waitpid $pid, 0;
		like(slurp("$dir/whole/file"), qr/"type":"end",[^\n]*\n\z/, 'what has the name is whole') if -e "$dir/whole/file";
		is(join(' ', grep { !m{/file$} } glob "$dir/whole/{.t,}*"), '', 'and nothing else is left') if $number > 4;
		unlink "$dir/whole/file", glob "$dir/whole/.tallyctl*";
	}
	return;
}

# While it reads it ends at once, and not only when it has read everything.  One that was writing
# already may be through.
sub test_interrupted_reading {
	my $died;
	for (1 .. 200) {
		my $pid = start_export();
		my $reads = sub { grep { /\.journal$/ } map { readlink || '' } glob "/proc/$pid/fd/*" };
		1 until $reads->() || slurp("/proc/$pid/stat") =~ /\) Z/;
		kill STOP => $pid;
		my $caught = $reads->() && (wait_until { slurp("/proc/$pid/stat") =~ /\) T/ }) && $reads->();
		kill(($caught ? 'INT' : 'KILL') => $pid);
		kill CONT => $pid;
		waitpid $pid, 0;
		$died = $caught && $? == POSIX::SIGINT();
		last if $died;
		unlink "$dir/whole/file", glob "$dir/whole/.tallyctl*";
	}
	ok($died, 'an export that reads the journal dies of a signal');
	is(join(' ', glob "$dir/whole/{.t,}*"), '', '... and leaves nothing');
	return;
}

# Killed while it writes, it leaves nothing, either.
sub test_killed {
	my $caught;
	for (1 .. 200) {
		my $pid = start_export();
		my $writes = sub { grep { m{^\Q$dir\E/whole/.} } map { readlink || '' } glob "/proc/$pid/fd/*" };
		1 until $writes->() || slurp("/proc/$pid/stat") =~ /\) Z/;
		kill KILL => $pid;
		waitpid $pid, 0;
		last if $caught = ($? & 127) == POSIX::SIGKILL() && !-e "$dir/whole/file";
		unlink "$dir/whole/file";
	}
	ok($caught, 'an export that is killed while it writes');
	is(join(' ', glob "$dir/whole/{.t,}*"), '', '... leaves nothing');
	SKIP: {
		# They take their options from there, and ptrace others.
		skip 'sanitizers need /proc', 5 if slurp(build_dir() . "/Makefile") =~ /^HARDEN_CFLAGS = .*-fsanitize/m;
		# Where a file cannot be without a name it has another one meanwhile.
		for (1, 2) {
			is(system('unshare', '-m', 'sh', '-c', 'mount -t tmpfs none /proc && exec "$@" >/dev/null', 'sh', tallyctl(), @data, 'export', '-o', "$dir/whole/file"), 0, 'an export without /proc');
			is(slurp("$dir/whole/file"), (ctl(@data, 'export'))[1], '... is the same');
		}
		is(join(' ', glob "$dir/whole/{.t,}*"), "$dir/whole/file", '... and all that is left');
	}
	unlink "$dir/whole/file";
	return;
}

# ---- one moment

sub test_moment {
	$tallyd->call('POST', '/events', { account => "bank-$_", amount => START }) for 1 .. ACCOUNTS;
	my $parent = $$;
	my @pids = map {
		my $pid = fork;
		die "cannot fork: $!" unless defined $pid;
		if ($pid == 0) {
			my $connection = $tallyd->connection;
			while (getppid == $parent) {
				my ($from, $to) = map { 1 + int rand ACCOUNTS } 1 .. 2;
				next if $from == $to;
				eval { $tallyd->call('POST', '/transfers', { from => "bank-$from", to => "bank-$to", amount => 1, id => "t-$$-" . rand }, undef, connection => $connection); 1 } or POSIX::_exit(0);
			}
			POSIX::_exit(0);
		}
		$pid;
	} 1 .. TELLERS;
	my ($wrong, %lsn) = (0);
	my $version = 0;
	for (1 .. LOOKS) {
		my $before = $version;
		ok((wait_until { ($version = $tallyd->call('GET', '/accounts/bank-1')->{json}{version}) > $before }), 'money moves');
		my ($status, $out, $err) = ctl(@data, 'export');
		is($status, 0, 'an export while money moves') or diag($err);
		my @lines = map { JSON::PP->new->utf8->decode($_) } split /\n/, $out;
		my $sum = 0;
		$sum += $_->{balance} for grep { $_->{account} =~ /^bank-/ } of('account', @lines);
		$wrong++ if $sum != ACCOUNTS * START;
		# What has happened by then, and nothing later: as many ids as there were transfers with one.
		my ($newest) = sort { $b <=> $a } map { $_->{lsn} } of('id', @lines);
		$wrong++ if $newest >= $lines[0]{lsn};
		$lsn{ $lines[0]{lsn} } = 1;
	}
	is($wrong, 0, 'each shows one moment');
	cmp_ok(scalar keys %lsn, '==', LOOKS, 'and not always the same');
	kill KILL => @pids;
	waitpid $_, 0 for @pids;
	return;
}

# ---- whatever state it is in

# Without the first line: where the journal ends is no part of the state.
sub said { return (ctl(@data, 'export'))[1] =~ s/\A.*\n//r }

sub test_states {
	# What was on its way when its clients went, is done soon.
	my $running = '';
	ok((wait_until { my $before = $running; ($running = said()) eq $before }), 'it comes to rest');
	my @all = ($tallyd->pid, map { $_->{pid} } $tallyd->children);
	stop_all(@all);
	is(said(), $running, 'the same of one that stands still');
	go_on(@all);
	$tallyd->kill9;
	is(said(), $running, 'of one that was killed');
	my %before = map { $_ => (stat)[9] . ' ' . -s } glob $tallyd->data_dir . '/{*,*/*}';
	is(said(), $running, 'as often as one likes');
	my %after = map { $_ => (stat)[9] . ' ' . -s } glob $tallyd->data_dir . '/{*,*/*}';
	is_deeply(\%after, \%before, '... which changes nothing there');
	$tallyd->start_again;
	use_daemon($tallyd);
	is(said(), $running, 'of one that was started again');
	SKIP: {
		skip 'only root can be nobody', 2 if $> != 0;
		my ($status, $out, $err) = ctl_as_nobody(@data, 'export');
		is($status, 4, 'nobody may not');
		like($err, qr/Permission denied/, '... and is told');
	}
	is_error(['-d', "$dir/nowhere", 'export'], 1, 'failed', qr/nowhere/, 'no data directory');
	return;
}

# More than the tables that it begins with take.
sub test_many {
	my $connection = $tallyd->connection;
	my $lines = join '', map { qq({"account":"many-$_","amount":$_,"id":"many-$_"}\n) } 1 .. MANY;
	$tallyd->request('POST', '/events', ['Content-Type' => 'application/x-ndjson'], $lines, deadline => 30);
	my @lines = exported();
	is(scalar(grep { $_->{account} =~ /^many-(\d+)$/ && $_->{balance} == $1 } of('account', @lines)), MANY, 'as many as there are');
	is(scalar(grep { $_->{id} =~ /^many-/ } of('id', @lines)), MANY, 'ids as well');
	return;
}

# While the journal is made shorter all the time, each export has all ids that it can have.
sub test_pruned {
	my $other = Tallyd->start(config => { workers => 2, journal_segment => '64K', snapshot_every => '64K', journal_keep => '64K', id_window => 1, max_ids => 1000 });
	my $parent = $$;
	my $pid = fork;
	die "cannot fork: $!" unless defined $pid;
	if ($pid == 0) {
		my $connection = $other->connection;
		my $lines = join '', map { qq({"account":"p","amount":1,"id":"%d-$_","note":"@{['z' x 200]}"}\n) } 1 .. 500;
		for (my $i = 0; getppid == $parent; $i++) {
			eval { $other->request('POST', '/events', ['Content-Type' => 'application/x-ndjson'], $lines =~ s/%d/$i/gr, connection => $connection); 1 } or POSIX::_exit(0);
		}
		POSIX::_exit(0);
	}
	ok((wait_until { $other->log_text =~ /old segment\(s\) of \d+ bytes removed/ } 30), 'segments go');
	for (1 .. 10) {
		my ($status, $out, $err) = ctl('-d', $other->data_dir, 'export');
		is($status, 0, 'an export meanwhile') or diag($err);
		my @lines = map { JSON::PP->new->utf8->decode($_) } split /\n/, $out;
		is($lines[-1]{ids} // -1, scalar(of('id', @lines)), '... is whole');
	}
	kill KILL => $pid;
	waitpid $pid, 0;
	is($other->stop, 0, 'that one stops');
	return;
}

test_lines();
test_file();
test_moment();
test_states();
test_many();
mkdir "$dir/whole" or die $!;
Mounts::tmpfs("$dir/whole", '64M');
test_interrupted_reading();
test_interrupted();
test_killed();
test_pruned();
is($tallyd->stop, 0, 'it stops');
Mounts::run('umount', '-l', "$dir/$_") for 'small', 'whole';
done_testing;
