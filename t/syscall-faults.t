#!/usr/bin/perl
# System calls that fail, are interrupted, or are the last thing that a process does: at every call
# that touches the disk, in the start, while it runs and in snapshots.  Whatever happens, tallyd
# serves, or refuses with 503 or 507, or ends with a message; and a start without faults
# afterwards finds everything that was acknowledged, and nothing that was not sent.  Most cases are
# loaded with plain events, some of each fault with every kind of operation, whose clients go on at
# the start without faults.
#
# TALLYD_FAULTS_ALL (set: half as many cases again), TALLYD_FAULTS_JOBS (default 2: side by side)

use strict;
use warnings;

use File::Temp ();
use FindBin;
use lib "$FindBin::RealBin/lib";
use Bank;
use Hammer;
use JSON::PP ();
use Mounts;
use POSIX ();
use Tallyd qw(patience slurp wait_until);
use Test::More;

use constant {
	LOAD           => 0.2, # seconds
	START_DEADLINE => 10,  # seconds to serve, or to end
	STOP_DEADLINE  => 10,  # seconds from SIGTERM to the end
	CRASHED_WAIT   => 0.5, # the same where a process is killed over and over
	HOPELESS       => 10,  # deaths before it serves
	BANK_LOAD      => 1.5, # seconds, at most, that a bank is open under a fault
	BANK_ANSWERS   => 500, # or until it has given so many answers
	BANK_AFTER     => 50,  # answers that it gives afterwards
	TOLD           => 5,   # differences that are printed
};

plan skip_all => 'strace is not installed' unless Mounts::have('strace');
my $denied = Mounts::failure('strace', '-D', '-f', '--seccomp-bpf', '-o', '/dev/null',
	'-e', 'trace=fdatasync', 'true');
plan skip_all => "strace may not trace here: $denied" if defined $denied;

# ---- the cases

my %fault = (
	EIO    => sub { "error=EIO:when=$_[0]" },     # once, and never again: no second try may be made
	ENOSPC => sub { "error=ENOSPC:when=$_[0]+" }, # from then on
	EINTR  => sub { "error=EINTR:when=$_[0]+2" }, # every other time
	KILL   => sub { "signal=KILL:when=$_[0]" },
);
my %text = (EIO => 'Input/output error', ENOSPC => 'No space left on device');

# Which calls of each, counted in each process and thread by itself: those of every run, and those
# that TALLYD_FAULTS_ALL adds.
my @calls = (
	[openat => 'data', [1, 3, 6], [2, 4, 5]],
	[getdents64 => 'data', [1, 3], [2, 4]],
	[pwrite64 => 'any', [1, 2, 4], [3, 5]],
	[pwritev => 'any', [1, 2, 40], [3, 5]],
	[fdatasync => 'any', [1, 2, 40], [3, 5]],
	[fsync => 'any', [1, 2, 4], [3, 5]],
	['/^rename' => 'any', [1, 2], [3]],
	[ftruncate => 'any', [1], []],
	[fallocate => 'any', [1, 3], [2]],
	[openat => 'snapshots', [1, 3], [2]],
	[pwrite64 => 'snapshots', [2], [1, 3]],
	[fsync => 'snapshots', [1, 2], []],
	['/^rename' => 'snapshots', [1], []],
);

my @cases;
for my $kind (@calls) {
	my ($call, $where, $always, $more) = @$kind;
	for my $when (@$always, $ENV{TALLYD_FAULTS_ALL} ? @$more : ()) {
		push @cases, { call => $call, where => $where, when => $when, fault => $_ }
			# Reading a directory is never interrupted.
			for grep { $_ ne 'EINTR' || $call ne 'getdents64' } sort keys %fault;
	}
}
# The rest of what a first start does; a start on what is there is the same at the first calls.
push @cases, { call => $_->[0], where => 'any', when => $_->[1], fault => $_->[2], fresh => 1 }
	for map { my $call = $_; map { my $when = $_; map { [$call, $when, $_] } qw(EIO KILL) } 1, 2 }
		qw(pwrite64 fsync);
# With every kind of operation.
push @cases, map { { call => $_->[0], where => 'any', when => $_->[1], fault => $_->[2], bank => 1 } }
	[fdatasync => 40, 'EIO'], [pwritev => 40, 'EIO'], [pwritev => 40, 'ENOSPC'],
	[fallocate => 3, 'ENOSPC'], [pwritev => 40, 'EINTR'], [pwritev => 40, 'KILL'],
	[fdatasync => 40, 'KILL'];
# Those that cost most time, of processes that are killed over and over, are spread over all jobs.
@cases = sort { $a->{fault} cmp $b->{fault} } @cases;

sub name {
	my ($case) = @_;
	(my $call = $case->{call}) =~ s/\W//g;
	return "$case->{fault} at $call $case->{when}" . ($case->{where} eq 'any' ? '' : " in $case->{where}")
		. ($case->{fresh} ? ' of the first start' : '') . ($case->{bank} ? ' under a bank' : '');
}

# ---- one case

my %config = (journal_segment => '64K', ring_size => '64K', snapshot_every => '64K', default_floor => 0,
	max_accounts => 1000, drain_timeout => 2, respawn_backoff => 0.02);

# Data as a killed daemon leaves it: segments, a snapshot, a tail.
my $top = File::Temp::tempdir('tallyd-faults-XXXXXXXX', TMPDIR => 1, CLEANUP => 1);
my $template = "$top/template";

sub make_template {
	mkdir $template, 0700 or die "mkdir: $!";
	my $tallyd = Tallyd->start(data_dir => $template, config => \%config);
	my $told = Hammer->start($tallyd, connections => 4, depth => 4, accounts => 10, requests => 3000)
		->wait_end;
	wait_until { glob "$template/snapshots/*.snapshot" } 5 or die 'no snapshot was written';
	$tallyd->kill9;
	return $told;
}

sub strace {
	my ($case, $data) = @_;
	my @paths = $case->{where} eq 'any' ? ()
		: map { ('-P', $_) } "$data/snapshots", "$data/snapshots/snapshot.tmp",
			$case->{where} eq 'data' ? ($data, "$data/journal") : ();
	return ['strace', '-D', '-f', '-qqq', '--seccomp-bpf', '-o', '/dev/null', @paths,
		'-e', "trace=$case->{call}", '-e', "inject=$case->{call}:" . $fault{ $case->{fault} }->($case->{when})];
}

# A bank that is open until it has given enough answers, or the daemon ends, or gives none.
sub open_bank {
	my ($tallyd) = @_;
	my $bank = Bank->open($tallyd, dir => $top, prefix => "bank$$-", accounts => 40, customers => 4,
		undecided => qr/^(?:408|50\d)$/);
	wait_until { defined $tallyd->exit_status || $bank->answers >= BANK_ANSWERS } BANK_LOAD;
	return $bank;
}

# The daemon under the fault; the port that it served at, a bank that is still open, what plain
# clients were told, and the problems found.
sub run_faulty {
	my ($case, $data) = @_;
	my $killed = $case->{fault} eq 'KILL';
	my @problems;
	my ($told, $bank);
	my $tallyd = Tallyd->start(data_dir => $data, config => \%config,
		wrapper => strace($case, $data), no_wait => 1);
	my $served;
	# What each of its processes does first may be what kills it, over and over.
	my $decided = wait_until {
		$served = $tallyd->serves;
		return $served || defined $tallyd->exit_status
			|| $killed && (() = $tallyd->log_text =~ /was killed by signal 9/g) > HOPELESS;
	} START_DEADLINE;
	push @problems, 'neither serves nor ends' unless $decided;
	if ($served) {
		$bank = open_bank($tallyd) if $case->{bank};
		$told = $case->{bank} ? undef : Hammer->start($tallyd, connections => 4, depth => 4, accounts => 10,
			seconds => LOAD, grace => 0.3)->wait_end;
		push @problems, Hammer::oddities($told) if $told;
		$tallyd->try_term;
		wait_until { defined $tallyd->exit_status }
			$killed ? CRASHED_WAIT / patience() : STOP_DEADLINE;
	}
	my $status = $tallyd->exit_status;
	my $log = $tallyd->log_text;
	if (!defined $status) {
		push @problems, 'does not stop' unless $killed;
		$tallyd->try_kill9;
	} elsif ($case->{fault} eq 'EINTR') {
		push @problems, "an interruption ended it: status $status" if $status != 0 || !$served;
	} elsif ($killed) {
		push @problems, "status $status" unless $status == 0 || $status == 128 + 9;
	} elsif ($status != 0) {
		push @problems, "status $status" if $status != 1;
		push @problems, 'it does not say why it ended'
			unless $log =~ / error: .*\Q$text{ $case->{fault} }\E/;
		push @problems, 'a snapshot is not worth ending for'
			if $case->{where} eq 'snapshots' && $served;
	}
	push @problems, 'a fault made it think that its region is inconsistent' if $log =~ /inconsistent/;
	push @problems, split /\n/, $log if @problems;
	return ($tallyd->port, $bank, $told, @problems);
}

sub close_bank {
	my ($tallyd, $bank) = @_;
	my @problems;
	push @problems, 'the bank gets no answers afterwards' unless $bank->wait_more(BANK_AFTER);
	push @problems, 'a customer was never answered' unless $bank->close;
	my $told = $bank->testimony;
	my @wrong = Bank::differences($told, Bank::books($tallyd));
	push @problems, splice @wrong, 0, TOLD;
	return (scalar @{ $told->{asked} }, @problems, Bank::asked_again($told, $tallyd));
}

# What it left must be whole.  What a bank was told counts as acknowledged.
sub run_clean {
	my ($data, $port, $bank, @told) = @_;
	my $tallyd = eval { Tallyd->start(data_dir => $data, config => \%config,
		listen => [["127.0.0.1:$port", { protocol => 'http' }]]) };
	return (0, "it does not start afterwards: $@") unless $tallyd;
	my ($acknowledged, @problems) = $bank ? close_bank($tallyd, $bank)
		: @told ? $told[-1]{acknowledged} : 0;
	push @problems, Hammer::lost($tallyd, @told);
	push @problems, 'it does not drain afterwards' if $tallyd->stop != 0;
	return ($acknowledged, @problems);
}

my $cases_run = 0;

sub run_case {
	my ($case, $before) = @_;
	my $data = "$top/data-$$-" . ++$cases_run;
	if ($case->{fresh}) {
		mkdir $data, 0700 or die "mkdir $data: $!";
	} else {
		Mounts::run('cp', '-a', $template, $data);
	}
	my ($port, $bank, $told, @problems) = run_faulty($case, $data);
	push @problems, 'it never served a bank' if $case->{bank} && !$bank;
	my ($acknowledged, @after) = run_clean($data, $port, $bank, $case->{fresh} ? () : $before,
		$told || ());
	push @problems, @after;
	Mounts::run('rm', '-rf', $data);
	return { name => name($case), problems => \@problems,
		acknowledged => $told || $bank ? $acknowledged : 0 };
}

# ---- side by side

my $before = make_template();
my $jobs = $ENV{TALLYD_FAULTS_JOBS} || 2;
my @readers;
for my $job (0 .. $jobs - 1) {
	my $pid = open my $reader, '-|';
	die "cannot fork: $!" unless defined $pid;
	push(@readers, $reader), next if $pid;
	STDOUT->autoflush(1);
	for my $i (grep { $_ % $jobs == $job } 0 .. $#cases) {
		my $result = eval { run_case($cases[$i], $before) }
			|| { name => name($cases[$i]), problems => ["$@"], acknowledged => 0 };
		print JSON::PP->new->encode($result), "\n";
	}
	POSIX::_exit(0);
}

my ($ran, $busy) = (0, 0);
for my $reader (@readers) {
	while (my $line = <$reader>) {
		my $result = JSON::PP->new->decode($line);
		$ran++;
		$busy++ if $result->{acknowledged};
		ok(!@{ $result->{problems} }, "$result->{name} ($result->{acknowledged} acknowledged)")
			or diag join "\n", @{ $result->{problems} };
	}
	close $reader;
}
is($ran, scalar @cases, 'every case was run');
cmp_ok($busy, '>', $ran / 3, "$busy of them under load");

# ---- slow, not faulty

# While a group commit is written the next one's events arrive: the writer finds no idle moment.
subtest 'sync = interval: a writer that is never idle syncs in time' => sub {
	my ($interval, $seconds) = (100, 2);
	my $trace = "$top/trace";
	my $tallyd = Tallyd->start(
		config => { sync => 'interval', sync_interval => $interval, snapshot_every => 0 },
		wrapper => ['strace', '-D', '-f', '-qqq', '--seccomp-bpf', '-o', $trace,
			'-e', 'trace=pwritev,fdatasync', '-e', 'inject=pwritev:delay_exit=20000']);
	my $told = Hammer->start($tallyd, connections => 8, depth => 1, accounts => 10,
		seconds => $seconds)->wait_end;
	my @calls = slurp($trace) =~ /(pwritev|fdatasync)\(/g;
	pop @calls while @calls && $calls[-1] ne 'pwritev';
	my ($synced, $most, $run) = (0, 0, 0);
	for (@calls) {
		$run = $_ eq 'pwritev' ? $run + 1 : 0;
		$most = $run if $run > $most;
		$synced++ if $_ eq 'fdatasync';
	}
	cmp_ok($told->{acknowledged}, '>', 0, 'events are taken');
	cmp_ok($synced, '>', $seconds * 1000 / $interval / 4, 'there are syncs under load');
	# Each takes 20 ms and more.
	cmp_ok($most, '<=', $interval / 20 + 3, 'no more group commits than fit into an interval between two');
	is($tallyd->stop, 0, 'it drains');
};

# ---- names

# A file that is synced is of no use after a power cut if its name is not there.
subtest 'directories are made durable before they are relied on' => sub {
	my ($data, $trace) = ("$top/new", "$top/names");
	my @wrapper = (wrapper => ['strace', '-D', '-f', '-qqq', '--seccomp-bpf', '-y', '-o', $trace,
		'-e', 'trace=fsync']);
	my $tallyd = Tallyd->start(config => { data_directory => qq($data) }, @wrapper);
	is($tallyd->event('one', 1)->{status}, 200, 'a first start');
	my $calls = slurp($trace);
	like($calls, qr/fsync\(\d+<\Q$_\E>\)/, "$_ was synced") for $top, $data, "$data/journal";
	$tallyd->kill9;
	$tallyd->start_again;
	my ($early) = slurp($trace) =~ /\A(.*?)(?:segment\.tmp|\z)/s;
	like($early, qr/fsync\(\d+<\Q$_\E>\)/, "the next start does not rely on the last one: $_")
		for $data, "$data/journal";
	is($tallyd->stop, 0, 'it drains');
};

# ---- a writer that dies of something else once its disk has failed

subtest 'a journal that has failed gets no second writer' => sub {
	my $tallyd = Tallyd->start;
	my $journal = wait_until { ($tallyd->children('journal'))[0] } 5;
	is($tallyd->event('before', 1)->{status}, 200, 'it serves');
	my $pid = fork // die "cannot fork: $!";
	if ($pid == 0) {
		exec 'strace', '-f', '-qqq', '-o', '/dev/null', '-e', 'trace=fdatasync,exit_group',
			'-e', 'inject=fdatasync:error=EIO', '-e', 'inject=exit_group:signal=KILL',
			'-p', $journal->{pid} or POSIX::_exit(127);
	}
	# An idle writer syncs a mark: it may be gone already.
	wait_until {
		my $status = eval { slurp("/proc/$journal->{pid}/status") };
		return !defined $status || $status =~ /^TracerPid:\s*[1-9]/m;
	} 5 or diag 'strace did not attach';
	# It is held a moment before its calls are watched: the events until then are on the disk.
	ok((wait_until {
		my $answer = eval { $tallyd->event('after', 1) };
		return !$answer || $answer->{status} != 200;
	} 5), 'what is not on disk is not acknowledged');
	ok((wait_until { defined $tallyd->exit_status } 5), 'tallyd ends');
	is($tallyd->exit_status, 1, '... with status 1');
	kill 'KILL', $pid;
	waitpid $pid, 0;
	$tallyd->try_kill9;
	$tallyd->start_again;
	is($tallyd->balance('before'), 1, 'started again it has what was acknowledged');
	is($tallyd->stop, 0, 'it drains');
};

done_testing;
