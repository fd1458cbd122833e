#!/usr/bin/perl
# The chat where something goes wrong: workers are killed, stopped, replaced, drained, out of
# descriptors.  Who was served by a dead one is told of as gone, once; nobody else loses anything.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/lib";
use Chat qw(read_all);
use POSIX ();
use Tallyd qw(build_dir patience slurp wait_until);
use Test::More;
use Time::HiRes qw(sleep time);

use constant {
	WORKERS => 3,
	CROWD   => 9,
	DEATHS  => 8,
	FILES   => 230,    # descriptors of a worker: those that it has anyway, and some
	MANY    => 200,    # clients, more than it has descriptors for
	SOON    => 5,      # seconds in which a death is told of
};

my $tallyd;

sub begin {
	my (%option) = @_;
	$tallyd = Tallyd->start(listen => [['127.0.0.1:0', {}], ['127.0.0.1:0', { protocol => 'chat' }]],
		config => { workers => WORKERS, respawn_backoff => 0, %{ $option{config} || {} } }, wrapper => $option{wrapper});
	return;
}

# Whoever is still there need not be waited for.
sub stops {
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	Chat->close_all;
	is($tallyd->stop, 0, 'it stops');
	return;
}

sub client { my ($name) = @_; my $client = Chat->new($tallyd, 1); return defined $name ? $client->name($name) : $client }

sub workers { return map { $_->{pid} } $tallyd->children('worker') }

# All of CLIENTS hear each other.
my $round = 0;
sub hear_each_other {
	my ($what, @clients) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$round++;
	$clients[$_]->say("roll $round call $_") for 0 .. $#clients;
	my $complete = sub {
		for my $one (0 .. $#clients) {
			my %heard = map { /> roll $round call (\d+)$/ ? ($1 => 1) : () } $clients[$one]->lines;
			return 0 if keys %heard < @clients - 1;
		}
		return 1;
	};
	ok(read_all($complete, 15, @clients), $what);
	return;
}

# Who of CLIENTS is there, and who has lost his connection, once it is known of all.
sub split_up {
	my (@clients) = @_;
	read_all(sub { 0 }, 0.3, @clients);
	return ([grep { !$_->ended } @clients], [grep { $_->ended } @clients]);
}

# ---- deaths

sub test_deaths {
	begin();
	my @clients = map { client("c$_") } 1 .. CROWD;
	my $next = CROWD;
	my ($killed, $gone_in_all) = (0, 0);
	# Some speak all the time.
	my $load = fork // die "fork: $!";
	if ($load == 0) {
		my $parent = getppid;
		srand;
		while (getppid == $parent) {
			my $one = eval { Chat->new($tallyd, 1) } or next;
			for my $n (1 .. 40) {
				last if getppid != $parent || $one->ended;
				eval { $one->say("noise $n") } or last;
				$one->take;
				select undef, undef, undef, 0.02;
			}
		}
		POSIX::_exit(0);
	}
	for my $death (1 .. DEATHS) {
		my @workers = workers();
		my $victim = $workers[$death % @workers];
		kill KILL => $victim;
		ok((wait_until { my @now = workers(); @now == WORKERS && !grep { $_ == $victim } @now }), 'a worker is killed, and replaced');
		my ($here, $gone) = split_up(@clients);
		$gone_in_all += @$gone;
		my $told = sub {
			for my $lost (@$gone) {
				my $name = $lost->called;
				return 0 if grep { 1 != grep { /\*\*\* \Q$name\E is gone: its worker died$/ } $_->lines } @$here;
			}
			return 1;
		};
		ok(read_all($told, SOON, @$here), scalar(@$gone) . ' clients are gone, and all others are told so');
		my $wrong = 0;
		for my $one (@$here) {
			$wrong += grep { my $name = $_->called; grep { /\*\*\* \Q$name\E (?:is gone|has left|was dropped)/ } $one->lines } @$here;
		}
		is($wrong, 0, '... nobody else is');
		@clients = (@$here, map { client('c' . ++$next) } 1 .. CROWD - @$here);
		hear_each_other('... and those who are there go on, with new ones', @clients);
		$clients[0]->say('/list');
		$clients[0]->sees(qr/^\*\*\* here are: (.*)/);
		my %listed = map { $_ => 1 } split / /, $clients[0]->found =~ s/.*: //r;
		is(scalar(grep { $listed{ $_->called } } @$gone), 0, '... who is gone is not there');
	}
	cmp_ok($gone_in_all, '>', 0, "$gone_in_all clients in all were gone");
	kill KILL => $load;
	waitpid $load, 0;
	my %twice;
	for my $one (@clients) {
		my %count;
		$count{$_}++ for map { /\*\*\* (\S+) is gone: its worker died$/ ? $1 : () } $one->lines;
		$twice{$_} = 1 for grep { $count{$_} > 1 } keys %count;
	}
	is(join(' ', %twice), '', 'nobody was told of twice');
	$_->close for @clients;
	return;
}

# Nobody was alive to tell of it.
sub test_all_die {
	my @clients = map { client("last$_") } 1 .. CROWD;
	kill KILL => workers();
	ok(read_all(sub { !grep { !$_->ended } @clients }, 0, @clients), 'all workers are killed, all connections gone');
	my $new = client('new');
	ok((wait_until {
		$new->say('/list');
		$new->sees(qr/^\*\*\* here are: /) && $new->found =~ /here are: new$/;
	}), 'whoever comes after that is alone');
	stops();
	return;
}

sub state_of { my ($pid) = @_; return slurp("/proc/$pid/stat") =~ /\) (\S)/ ? $1 : '' }

# One that is stopped holds nobody up but its own.
sub test_stopped {
	begin();
	my @clients = map { client("s$_") } 1 .. CROWD;
	my ($victim) = workers();
	kill STOP => $victim;
	ok((wait_until { state_of($victim) eq 'T' }), 'a worker is stopped');
	$round++;
	$clients[$_]->say("roll $round call $_") for 0 .. $#clients;
	my $heard = sub { my ($one) = @_; my %heard = map { /> roll $round call (\d+)$/ ? ($1 => 1) : () } $one->lines; return scalar keys %heard };
	# Those of the stopped one neither speak nor hear; all others do.
	my @free;
	ok(read_all(sub { @free = grep { $heard->($_) > 0 } @clients; @free > 0 && !grep { $heard->($_) < @free - 1 } @free }, 0, @clients), 'the others go on');
	kill CONT => $victim;
	hear_each_other('... and all, when it does', @clients);
	$_->close for @clients;
	stops();
	return;
}

# ---- reloads and drains

sub test_reload {
	begin(config => { drain_timeout => 6 });
	my @old = map { client("old$_") } 1 .. CROWD;
	my $mark = $tallyd->log_mark;
	$tallyd->set_config(workers => 1);
	$tallyd->hup;
	ok($tallyd->wait_log(qr/reloaded: 1 workers/, 10, $mark), 'fewer workers after a reload');
	for my $one (@old) { ok($one->sees(qr/^\*\*\* tallyd was reloaded: this connection ends soon/), 'who is there is told so') }
	my @new = map { client("new$_") } 1 .. 3;
	hear_each_other('... and goes on, with those on new workers', @old, @new);
	ok(read_all(sub { !grep { !$_->ended } @old }, 20, @old, @new), 'until the drain is over');
	is(scalar(grep { ($_->lines)[-1] !~ /^\*\*\* tallyd was reloaded: come back; good-bye$/ } @old), 0, '... which is told, too');
	my $left = sub { my %left = map { /\*\*\* (old\d+) has left$/ ? ($1 => 1) : () } $new[0]->lines; return keys %left == CROWD };
	ok(read_all($left, 0, @new), '... and to the others');
	is(scalar(() = $tallyd->log_text =~ /were cut/g), 0, '... and nobody has to be cut');
	hear_each_other('... who go on', @new);
	# One that drains, and dies.
	my $draining = (workers())[-1];
	my @last = map { client("last$_") } 1 .. 3;
	$mark = $tallyd->log_mark;
	$tallyd->hup;
	ok($tallyd->wait_log(qr/reloaded: 1 workers/, 10, $mark), 'another reload');
	my $witness = client('witness');
	kill KILL => $draining;
	my $told = sub { my %gone = map { /\*\*\* (last\d+) is gone: its worker died$/ ? ($1 => 1) : () } $witness->lines; return keys %gone == @last };
	ok(read_all($told, SOON, $witness), 'who was left with an old worker is told of when it dies');
	$_->close for @new, @last, $witness;
	stops();
	return;
}

sub test_drain {
	begin();
	my @clients = map { client("d$_") } 1 .. CROWD;
	$clients[0]->say('just before');
	$clients[1]->sees(qr/just before$/);
	$tallyd->term;
	ok(read_all(sub { !grep { !$_->ended } @clients }, 0, @clients), 'a stop ends all connections');
	is(scalar(grep { ($_->lines)[-1] ne '*** tallyd is stopping; good-bye' } @clients), 0, '... with a word');
	$_->close for @clients;
	is($tallyd->wait_exit, 0, 'it stops in order');
	begin();
	my $client = client();
	kill QUIT => $tallyd->pid;
	ok($client->ends, 'one in a hurry does, too');
	is($tallyd->wait_exit, 0, '... in order');
	return;
}

# ---- descriptors

sub test_descriptors {
	begin(wrapper => ['sh', '-c', 'ulimit -n ' . FILES . '; exec "$@"', 'sh'], config => { workers => 2 });
	my @clients = map { client("f$_") } 1 .. 4;
	my @more = map { Chat->new($tallyd, 1, door => 1) } 1 .. MANY;
	ok($tallyd->wait_log(qr/Too many open files/, 10), 'descriptors run out');
	hear_each_other('who is in the room goes on', @clients);
	kill USR1 => $tallyd->pid;
	hear_each_other('... also when logs are opened anew', @clients);
	my ($worker) = workers();
	kill KILL => $worker;
	ok((wait_until { my @now = workers(); @now == 2 && !grep { $_ == $worker } @now }), '... and when a worker is killed');
	$_->close for @more;
	my ($here, $gone) = split_up(@clients);
	hear_each_other('... those of the other one do', @$here, client('late')) ;
	stops();
	return;
}

# The region is made anew: all are gone, and the room begins anew.
sub test_poison {
	begin();
	my @clients = map { client("p$_") } 1 .. 3;
	my ($device, $inode) = stat $tallyd->data_dir;
	is(system(build_dir() . '/t/poison', sprintf('/tallyd-%x-%x', $device, $inode), 'flag'), 0, 'the region is poisoned');
	ok(read_all(sub { !grep { !$_->ended } @clients }, 0, @clients), 'all are gone');
	ok((wait_until { $tallyd->serves }), 'it is rebuilt');
	my $new = client('new');
	$new->say('/list');
	ok($new->sees(qr/here are: new$/), 'and the room is empty');
	stops();
	return;
}

$SIG{PIPE} = 'IGNORE';
test_deaths;
test_all_die;
test_stopped;
test_reload;
test_drain;
test_descriptors;
test_poison;
done_testing;
