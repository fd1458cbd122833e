package Bench;

# tallybench, run by a test; and servers that do what tallyd never would.
#
#     my $run = bench('-n', 100, $tallyd->url);             # { status, out, err }
#     my $run = bench('-j', '-n', 100, $tallyd->url);       # and json
#     my $child = bench_begin('-j', '-d', 3, $tallyd->url); # ... meanwhile ...
#     my $run = bench_end($child);
#
#     my $fake = Bench::Fake->new(sub { my ($socket, $number) = @_; ... });
#     $fake->url; $fake->seen;

use strict;
use warnings;

use Carp qw(croak);
use Exporter qw(import);
use File::Temp ();
use JSON::PP ();
use POSIX qw(WNOHANG);
use Tallyd qw(wait_until build_dir slurp);

our @EXPORT = qw(bench bench_begin bench_end bench_runs bench_program answer);

use constant RUN_DEADLINE => 60; # seconds for a run

sub bench_program { return build_dir() . '/tallybench' }

# Begins a run; with a code reference first, that is called in the child before.
sub bench_begin {
	my (@arguments) = @_;
	my $before = ref $arguments[0] eq 'CODE' ? shift @arguments : sub { };
	my @command = ref $arguments[0] eq 'ARRAY' ? @{ shift @arguments } : ();
	my %child = map { $_ => File::Temp->new } qw(out err);
	my $pid = fork;
	croak "cannot fork: $!" unless defined $pid;
	if ($pid == 0) {
		$before->();
		open STDIN, '<', '/dev/null' or POSIX::_exit(126);
		open STDOUT, '>', $child{out}->filename or POSIX::_exit(126);
		open STDERR, '>', $child{err}->filename or POSIX::_exit(126);
		exec @command, bench_program(), @arguments or POSIX::_exit(127);
	}
	return { pid => $pid, %child };
}

# Does it still run?
sub bench_runs {
	my ($child) = @_;
	return 0 if defined $child->{status};
	my $got = waitpid $child->{pid}, WNOHANG;
	return 1 if $got == 0;
	$child->{status} = $? & 127 ? 128 + ($? & 127) : $? >> 8;
	return 0;
}

sub bench_end {
	my ($child) = @_;
	unless (wait_until { !bench_runs($child) } RUN_DEADLINE) {
		kill 'KILL', $child->{pid};
		waitpid $child->{pid}, 0;
		croak 'tallybench has not ended; so far: ' . slurp($child->{err}->filename);
	}
	my %run = (status => $child->{status}, map { $_ => slurp($child->{$_}->filename) } qw(out err));
	Test::More::fail("no sanitizer reports anything: $run{err}") if $run{err} =~ /Sanitizer|runtime error/;
	$run{json} = JSON::PP->new->decode($run{out}) if $run{out} =~ /^\{/;
	return \%run;
}

sub bench { return bench_end(bench_begin(@_)) }

# An answer of STATUS with a document or lines.
sub answer {
	my ($status, $body, @fields) = @_;
	return "HTTP/1.1 $status X\r\n" . join('', map { "$_\r\n" } @fields) . 'Content-Length: '
		. length($body) . "\r\n\r\n$body";
}

package Bench::Fake;

# A server whose connections are each a child that runs CODE(socket, number), number counted from 1.
# What CODE prints to the handle note is seen.

use strict;
use warnings;

use IO::Handle;
use IO::Socket::IP;
use Tallyd qw(free_port slurp);

sub new {
	my ($class, $code) = @_;
	my $port = free_port();
	my $listener = IO::Socket::IP->new(LocalHost => '127.0.0.1', LocalPort => $port, Listen => 64,
		ReuseAddr => 1) or die "cannot listen: $!";
	my $notes = File::Temp->new;
	my $pid = fork;
	die "cannot fork: $!" unless defined $pid;
	if ($pid == 0) {
		local $SIG{CHLD} = 'IGNORE';
		local $SIG{TERM} = sub { POSIX::_exit(0) };
		setpgrp;
		my $number = 0;
		while (my $socket = $listener->accept) {
			# The first one only looks whether somebody is there.
			my $which = $number++;
			next if $which == 0 || fork;
			open my $note, '>>', $notes->filename or POSIX::_exit(1);
			$note->autoflush(1);
			$code->($socket, $which, $note);
			POSIX::_exit(0);
		}
		POSIX::_exit(0);
	}
	return bless { port => $port, pid => $pid, notes => $notes, owner => $$ }, $class;
}

sub url { return "http://127.0.0.1:$_[0]{port}" }

sub seen { return slurp($_[0]{notes}->filename) }

# Reads one request from SOCKET: (head, body), or nothing at its end.
sub request {
	my ($socket) = @_;
	my ($head, $body) = ('', '');
	while ($head !~ /\r\n\r\n$/) {
		my $line = <$socket>;
		return unless defined $line;
		$head .= $line;
	}
	read $socket, $body, $1 if $head =~ /^Content-Length: (\d+)/mi && $1;
	return ($head, $body);
}

sub DESTROY {
	my ($self) = @_;
	return if $self->{owner} != $$;
	local ($?, $!);
	kill 'TERM', -$self->{pid}, $self->{pid};
	waitpid $self->{pid}, 0;
	return;
}

1;
