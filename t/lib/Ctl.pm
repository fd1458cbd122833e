package Ctl;

# Running tallyctl, and making its daemon's life hard.
#
#     my ($status, $out, $err) = ctl('-d', $dir, 'status');
#     my ($status, $json, $err) = ctl_json('-d', $dir, 'get', 'alice');   # adds --json, and decodes
#
# One that does not end within a deadline is killed: status 124.

use strict;
use warnings;

use Exporter qw(import);
use File::Temp qw(tempdir);
use JSON::PP ();
use POSIX ();
use Tallyd qw(build_dir patience slurp wait_until);
use Test::More ();

our @EXPORT_OK = qw(ctl ctl_json ctl_as_nobody stop_all go_on is_error is_number tallyctl);

use constant DEADLINE => 20; # seconds for a command

sub tallyctl { return $ENV{TALLYCTL} || build_dir() . '/tallyctl' }

my $dir = tempdir(CLEANUP => 1);

# (exit status, standard output, standard error) of COMMAND.
sub _run {
	my (@command) = @_;
	my $pid = fork;
	die "cannot fork: $!" unless defined $pid;
	if ($pid == 0) {
		open STDIN, '<', '/dev/null' and open STDOUT, '>', "$dir/out" and open STDERR, '>', "$dir/err"
			or POSIX::_exit(126);
		{ no warnings 'exec'; exec 'timeout', DEADLINE * patience(), @command; }
		POSIX::_exit(127);
	}
	waitpid $pid, 0;
	my $status = $? & 127 ? 128 + ($? & 127) : $? >> 8;
	return ($status, slurp("$dir/out"), slurp("$dir/err"));
}

sub ctl { return _run(tallyctl(), @_) }

sub _decode {
	my ($status, $out, $err) = @_;
	my $json = eval { JSON::PP->new->utf8->decode($out) };
	Test::More::diag("no JSON: $@: $out$err") unless $json;
	return ($status, $json, $err);
}

sub ctl_json { return _decode(_run(tallyctl(), '--json', @_)) }

# The same as somebody else; root only.
sub ctl_as_nobody {
	return _run('setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', tallyctl(), @_);
}

# The command ARGUMENTS fails with STATUS and REASON, and says why in words that match PATTERN; the
# same with --json.
sub is_error {
	my ($arguments, $status, $reason, $pattern, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($got, $out, $err) = ctl(@$arguments);
	Test::More::is($got, $status, "$name: exit status $status");
	Test::More::like($err, qr/^tallyctl: .*$pattern/, "$name: said");
	Test::More::is($out, '', "$name: nothing else");
	my ($again, $json) = ctl_json(@$arguments);
	Test::More::is($again, $status, "$name: the same with --json");
	return Test::More::ok($json && $json->{status} eq 'error' && $json->{reason} eq $reason
		&& $json->{detail} =~ $pattern, "$name: as a document");
}

# NAME's value in the document JSON is a number, and not a text of digits; look before it is used as a text.
sub is_number {
	my ($json, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return Test::More::like(JSON::PP->new->allow_nonref->encode($json->{$name}), qr/^\d+$/, "$name is a number");
}

sub _state {
	my ($pid) = @_;
	return '' unless -e "/proc/$pid/stat";
	my ($state) = (eval { slurp("/proc/$pid/stat") } || '') =~ /^\d+ \(.*\) (\w)/s;
	return $state || '';
}

# Stops processes, and returns when they stand still.
sub stop_all {
	my (@pids) = @_;
	kill STOP => @pids;
	for my $pid (@pids) {
		wait_until { _state($pid) eq 'T' } or die "process $pid does not stop";
	}
	return;
}

sub go_on { return kill CONT => @_ }

1;
