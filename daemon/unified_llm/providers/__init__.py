"""Purpose: speaks to model servers elsewhere, in their own words, and answers in the domain's.

Touches: the network, Unix sockets of other servers, the files of certificate authorities.
Imported by: app.
Never: a secret shown, a redirect followed, a decision on which provider is asked.
"""
