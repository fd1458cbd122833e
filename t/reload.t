#!/usr/bin/perl
# A reload that is still waiting for its new workers when something else happens: it ends whole, one
# way or the other, and who serves goes on.

use strict;
use warnings;

use Fcntl qw(O_NONBLOCK O_RDONLY);
use FindBin;
use POSIX qw(mkfifo);
use Test::More;

use lib "$FindBin::RealBin/lib";
use Tallyd qw(build_dir wait_until);

use constant PROMPTLY => 10;    # seconds for what does not have to wait

sub workers { return map { $_->{pid} } $_[0]->children('worker') }

# A daemon in a reload that goes on until its new workers have their access log, which is a FIFO
# without a reader; its old workers, and its new ones.
sub reloading {
	my $tallyd = Tallyd->start(config => { respawn_backoff => 0 });
	is($tallyd->event('kept', 1)->{status}, 200, 'an event');
	my @old = workers($tallyd);
	my $fifo = $tallyd->dir . '/fifo';
	mkfifo($fifo, 0600) or die "$fifo: $!";
	$tallyd->set_config(access_log => $fifo);
	$tallyd->hup;
	ok((wait_until { workers($tallyd) == 4 } PROMPTLY), 'a reload begins');
	my %old = map { $_ => 1 } @old;
	return ($tallyd, \@old, [grep { !$old{$_} } workers($tallyd)]);
}

# Lets the new workers open their log, for as long as the handle that it returns is kept.
sub let_go {
	my ($tallyd) = @_;
	sysopen my $reader, $tallyd->dir . '/fifo', O_RDONLY | O_NONBLOCK or die "fifo: $!";
	return $reader;
}

# Just WORKERS are left, and serve.
sub serve {
	my ($tallyd, @workers) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $expected = join ' ', sort @workers;
	ok((wait_until { join(' ', sort(workers($tallyd))) eq $expected } PROMPTLY),
		'who served is left, and nobody else');
	is($tallyd->event('kept', 1)->{status}, 200, '... and serves');
	return;
}

# The reload failed for the reason WHY.
sub failed {
	my ($tallyd, $why) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($tallyd->wait_log(qr/reload failed: $why; everything stays as it was/, PROMPTLY), "it fails: $why")
		or diag($tallyd->log_tail);
	return;
}

subtest 'a new worker dies' => sub {
	my ($tallyd, $old, $new) = reloading();
	kill 'KILL', $new->[0];
	failed($tallyd, 'a new worker died before it was ready');
	my $reader = let_go($tallyd);
	serve($tallyd, @$old);
	my $mark = $tallyd->log_mark;
	$tallyd->set_config(access_log => undef);
	$tallyd->hup;
	ok($tallyd->wait_log(qr/reloaded: 2 workers/, PROMPTLY, $mark), 'the next one succeeds');
	is($tallyd->stop, 0, 'it stops');
};

subtest 'an old worker dies' => sub {
	my ($tallyd, $old, $new) = reloading();
	kill 'KILL', $old->[0];
	ok((wait_until { workers($tallyd) == 4 && !grep { $_ == $old->[0] } workers($tallyd) } PROMPTLY),
		'it is replaced');
	my $reader = let_go($tallyd);
	ok($tallyd->wait_log(qr/reloaded: 2 workers/, PROMPTLY), 'the reload succeeds');
	serve($tallyd, @$new);
	is($tallyd->stop, 0, 'it stops');
};

subtest 'another reload is asked for' => sub {
	my ($tallyd) = reloading();
	$tallyd->set_config(access_log => undef, workers => 1);
	$tallyd->hup for 1 .. 3;
	my $reader = let_go($tallyd);
	ok($tallyd->wait_log(qr/reloaded: 2 workers.*reloaded: 1 workers/s, PROMPTLY), 'its turn comes');
	ok((wait_until { workers($tallyd) == 1 } PROMPTLY), 'one worker is left');
	is($tallyd->event('kept', 1)->{status}, 200, '... and serves');
	is($tallyd->stop, 0, 'it stops');
};

subtest 'the daemon is stopped' => sub {
	my ($tallyd) = reloading();
	$tallyd->term;
	failed($tallyd, 'tallyd is stopping');
	my $reader = let_go($tallyd);
	is($tallyd->wait_exit(PROMPTLY), 0, 'it stops');
	$tallyd->set_config(access_log => undef);
	$tallyd->start_again;
	is($tallyd->balance('kept'), 1, 'nothing was lost');
	is($tallyd->stop, 0, 'it stops again');
};

subtest 'the region is found inconsistent' => sub {
	my ($tallyd) = reloading();
	my ($device, $inode) = stat $tallyd->data_dir;
	my $strayed = 0;
	local $SIG{WINCH} = sub { $strayed++ };
	is(system(build_dir() . '/t/poison', sprintf('/tallyd-%x-%x', $device, $inode), 'flag'), 0,
		'the region is poisoned');
	failed($tallyd, 'the region was inconsistent');
	ok((wait_until { $tallyd->serves && workers($tallyd) == 2 } PROMPTLY), 'it is rebuilt, and served');
	is($strayed, 0, 'and nobody else was told to leave');
	is($tallyd->balance('kept'), 1, 'nothing was lost');
	is($tallyd->stop, 0, 'it stops');
};

done_testing();
