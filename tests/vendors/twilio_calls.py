#!/usr/bin/env python3
"""Uses Twilio's own library on the calls resource of a server: BASE ACCOUNT TOKEN CALL and what to do with the call.

    fetch      says what the call is
    complete   updates its status to completed
    hang_up    updates it with the TwiML <Response><Hangup/></Response>
    transfer   updates it with the TwiML <Response><Dial>NUMBER</Dial></Response>; NUMBER is the next argument

Prints one line of JSON: the call as the library read it, or the error that it raised.
"""
import json
import sys
from urllib.parse import urlsplit, urlunsplit

from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client


class Elsewhere(TwilioHttpClient):
    """The library's own client, but for the host."""

    def __init__(self, base):
        super().__init__(timeout=10)
        self.base = urlsplit(base)

    def request(self, method, url, *args, **kwargs):
        url = urlunsplit(urlsplit(url)._replace(scheme=self.base.scheme, netloc=self.base.netloc))
        return super().request(method, url, *args, **kwargs)


def main():
    base, account, token, sid, action, *rest = sys.argv[1:]
    call = Client(account, token, http_client=Elsewhere(base)).calls(sid)
    try:
        if action == "fetch":
            seen = call.fetch()
        elif action == "complete":
            seen = call.update(status="completed")
        elif action == "hang_up":
            seen = call.update(twiml="<Response><Hangup/></Response>")
        elif action == "transfer":
            seen = call.update(twiml=f"<Response><Dial>{rest[0]}</Dial></Response>")
        else:
            sys.exit(f"unknown action {action}")
    except TwilioRestException as error:
        print(json.dumps({"error": error.status, "code": error.code, "message": error.msg}))
        return
    start = seen.start_time.isoformat() if seen.start_time else None
    print(json.dumps({"sid": seen.sid, "account": seen.account_sid, "status": seen.status, "start": start,
                      "direction": seen.direction}))


main()
